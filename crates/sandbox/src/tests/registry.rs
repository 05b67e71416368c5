//! What package registries have, run by this interface; `tests/outside/sandbox.py` does the same through the door.

use std::path::PathBuf;

use bartizan_base::Digest;

use super::*;

/// The runtime in the file that a variable names.
fn from(variable: &str, entry: &str) -> Runtime {
    let file = PathBuf::from(std::env::var_os(variable).unwrap());
    let mut spec = runtime(Bounds::default()).spec;
    spec.accepts = Accepts::Source;
    spec.digest = Some(Digest::of(&std::fs::read(&file).unwrap()));
    spec.file = Some(file);
    spec.entry = entry.to_owned();
    spec.arguments = vec!["program".to_owned(), "/source".to_owned()];
    spec.bounds.time_ms = 300_000;
    spec.open(&Name::literal("registry")).unwrap()
}

fn told(
    engine: &Engine,
    runtime: &Runtime,
    source: &str,
) -> (Ending, String, String, BTreeMap<String, Vec<u8>>) {
    let files = [("data/in.csv".to_owned(), b"a,1\nb,41\n".to_vec())].into();
    let run = Run::new(runtime, Program::Source(source.to_owned()), b"hello".to_vec(), files).unwrap();
    let Finished { ended, stdout, stderr, files, fuel } = super::run(engine, &run).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(stdout), text(stderr));
    println!("{ended:?} {fuel}\n{stdout}{stderr}{:?}", files.keys());
    (ended, stdout, stderr, files)
}

#[test]
#[ignore = "needs the module in BARTIZAN_TEST_PYTHON"]
fn python_of_a_registry_runs_and_finds_no_way_out() {
    let (engine, python) = (engine(), from("BARTIZAN_TEST_PYTHON", "_start"));
    let source = "import json, os, sys\n\
        total = sum(int(line.split(',')[1]) for line in open('/data/in.csv').read().splitlines())\n\
        os.mkdir('/out')\n\
        json.dump({'total': total, 'said': sys.stdin.read()}, open('/out/total.json', 'w'))\n\
        print(total, dict(os.environ), sorted(os.listdir('/data')))";
    let (ended, stdout, _, files) = told(&engine, &python, source);
    assert_eq!((ended, stdout.as_str()), (Ending::Exited(0), "42 {} ['in.csv']\n"));
    assert_eq!(files["out/total.json"], br#"{"total": 42, "said": "hello"}"#);
    let ways = "import os, socket\n\
        def tried(work):\n    try: return 'OUT ' + repr(work())\n    except BaseException as error: return type(error).__name__\n\
        print(tried(lambda: open('/etc/passwd').read()), tried(lambda: open('../../../etc/passwd').read()))\n\
        print(tried(lambda: os.symlink('/etc', '/x')), tried(lambda: os.system('id')), tried(lambda: open('/proc/self/environ')))\n\
        print(tried(lambda: socket.create_connection(('127.0.0.1', 1))))";
    let (ended, stdout, _, files) = told(&engine, &python, ways);
    assert!(ended == Ending::Exited(0) && stdout.lines().count() == 3 && !stdout.contains("OUT"), "{stdout}");
    assert!(files.is_empty());
    let (ended, _, stderr, _) = told(&engine, &python, "x = []\nwhile True: x.append(bytes(1 << 20))");
    assert!(ended == Ending::Memory || (ended == Ending::Exited(1) && stderr.contains("MemoryError")));
    let (ended, stdout, ..) =
        told(&engine, &python, "import sys, time\ntime.sleep(3600)\nprint('slept')\nsys.exit(7)");
    assert_eq!((ended, stdout.as_str()), (Ending::Exited(7), "slept\n"));
}

#[test]
#[ignore = "needs the module in BARTIZAN_TEST_QUICKJS"]
fn javascript_of_a_registry_runs() {
    let (engine, mut quick) = (engine(), from("BARTIZAN_TEST_QUICKJS", "qjs_init_argv"));
    let source = "console.log([1, 2, 3].map(n => n * 14).reduce((a, b) => Math.max(a, b)), typeof fetch, typeof process)";
    let (ended, stdout, ..) = told(&engine, &quick, source);
    assert_eq!((ended, stdout.as_str()), (Ending::Exited(0), "42 undefined undefined\n"));
    quick.spec.bounds.fuel = 500_000_000;
    assert_eq!(told(&engine, &quick, "for (;;) {}").0, Ending::Fuel);
}
