//! Times of single calls, and the processor time of all of them.

use std::time::{Duration, Instant};

use bartizan_bench::report::Value;

/// The processor time that this thread has used.
pub fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// What single calls took.
#[derive(Clone, Debug, Default)]
pub struct Times {
    each_ns: Vec<u64>,
    cpu: Duration,
}

impl Times {
    /// Times `call` with every one of `inputs`, after as many untimed calls as `warm` says.
    pub fn of<T>(inputs: &[T], warm: usize, mut call: impl FnMut(&T)) -> Self {
        inputs.iter().take(warm).for_each(&mut call);
        let mut each_ns = Vec::with_capacity(inputs.len());
        let before = cpu();
        for input in inputs {
            let start = Instant::now();
            call(input);
            each_ns.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        Self { each_ns, cpu: cpu() - before }
    }

    pub fn quantile_us(&self, quantile: f64) -> f64 {
        let mut sorted = self.each_ns.clone();
        sorted.sort_unstable();
        let at = ((sorted.len() - 1) as f64 * quantile).round() as usize;
        sorted[at] as f64 / 1e3
    }

    /// Processor time for one.
    pub fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.each_ns.len() as f64
    }

    /// Rows for one thing measured: the median, the 99th percentile, and processor time for one.
    pub fn values(&self, what: &str) -> Vec<Value> {
        vec![
            Value::new(format!("{what}_p50"), Some(self.quantile_us(0.5)), "us"),
            Value::new(format!("{what}_p99"), Some(self.quantile_us(0.99)), "us"),
            Value::new(format!("{what}_cpu"), Some(self.cpu_us()), "us"),
        ]
    }
}

/// Resident memory of this process in bytes.
pub fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) * 1024.0
}
