//! The functions that programs can call, by the names and types of WASI preview 1.

use wasmtime::{Caller, Extern, Linker, Trap};

use super::errno::Errno;
use super::fds::Opening;
use super::guest::{Guest, Halt, Stop};
use super::host::Host;
use crate::run::PATH_MAX;

const WASI: &str = "wasi_snapshot_preview1";
/// How much may be waited for at once.
const WAITS_MAX: u32 = 256;

type Done = wasmtime::Result<u32>;

/// One call: counted, with the memory and the state at hand.
fn call(
    mut caller: Caller<'_, Host>,
    work: impl FnOnce(&mut Guest<'_>, &mut Host) -> Result<(), Stop>,
) -> Done {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else { return Ok(Errno::FAULT.0) };
    let left = caller.get_fuel()?;
    let (bytes, host) = memory.data_and_store_mut(&mut caller);
    host.called(left);
    let done = work(&mut Guest(bytes), host);
    let cost = host.cost;
    caller.set_fuel(left.saturating_sub(cost))?;
    match done {
        Err(Stop::Halt(halt)) => Err(wasmtime::Error::new(halt)),
        _ if left < cost => Err(Trap::OutOfFuel.into()),
        Ok(()) => Ok(0),
        Err(Stop::Errno(errno)) => Ok(errno.0),
    }
}

/// All of them, in a linker of their own.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    process(&mut linker)?;
    descriptors(&mut linker)?;
    files(&mut linker)?;
    paths(&mut linker)?;
    Ok(linker)
}

type C<'a> = Caller<'a, Host>;

fn process(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(WASI, "args_sizes_get", |c: C<'_>, count: u32, bytes: u32| {
        call(c, |guest, host| {
            let sizes = host.argument_sizes();
            guest.put_u32(count, sizes.0)?;
            Ok(guest.put_u32(bytes, sizes.1)?)
        })
    })?;
    linker.func_wrap(WASI, "args_get", |c: C<'_>, places: u32, texts: u32| {
        call(c, |guest, host| host.arguments(guest, places, texts))
    })?;
    // There is no environment.
    linker.func_wrap(WASI, "environ_sizes_get", |c: C<'_>, count: u32, bytes: u32| {
        call(c, |guest, _| {
            guest.put_u32(count, 0)?;
            Ok(guest.put_u32(bytes, 0)?)
        })
    })?;
    linker.func_wrap(WASI, "environ_get", |c: C<'_>, _: u32, _: u32| call(c, |_, _| Ok(())))?;
    linker.func_wrap(WASI, "clock_res_get", |c: C<'_>, id: u32, at: u32| {
        call(c, |guest, host| {
            host.clock(id).ok_or(Errno::INVAL)?;
            Ok(guest.put_u64(at, 1)?)
        })
    })?;
    linker.func_wrap(WASI, "clock_time_get", |c: C<'_>, id: u32, _: u64, at: u32| {
        call(c, |guest, host| Ok(guest.put_u64(at, host.clock(id).ok_or(Errno::INVAL)?)?))
    })?;
    linker.func_wrap(WASI, "random_get", |c: C<'_>, at: u32, len: u32| {
        call(c, |guest, host| {
            // Each byte is computed, not only moved.
            host.moved(u64::from(len) * 256);
            if host.cost <= host.fuel_left {
                host.random(guest.get_mut(at, len)?);
            }
            Ok(())
        })
    })?;
    linker.func_wrap(WASI, "sched_yield", |c: C<'_>| call(c, |_, _| Ok(())))?;
    linker.func_wrap(WASI, "proc_exit", |c: C<'_>, code: u32| {
        call(c, |_, _| Err(Halt::Exit(code).into())).map(drop)
    })?;
    linker.func_wrap(WASI, "proc_raise", |c: C<'_>, _: u32| call(c, |_, _| Err(Errno::NOTSUP.into())))?;
    linker.func_wrap(WASI, "poll_oneoff", |c: C<'_>, waits: u32, events: u32, count: u32, told: u32| {
        call(c, |guest, host| wait(guest, host, (waits, events, count, told)))
    })?;
    Ok(())
}

/// Waits for the first of what is told: what can be read or written is so at once, and time passes without taking any.
fn wait(
    guest: &mut Guest<'_>,
    host: &mut Host,
    (waits, events, count, told): (u32, u32, u32, u32),
) -> Result<(), Stop> {
    if count == 0 || count > WAITS_MAX {
        return Err(Errno::INVAL.into());
    }
    host.moved(u64::from(count) * 1_024);
    guest.get(waits, count * 48)?;
    guest.get(events, count * 32)?;
    let mut ready: Vec<(u64, u8, u32)> = Vec::new();
    let mut clocks: Vec<(u64, u64)> = Vec::new();
    for index in 0..count {
        let at = waits + index * 48;
        let user = guest.u64(at)?;
        match guest.get(at + 8, 1)?.first() {
            Some(0) => {
                let now = host.clock(guest.u32(at + 16)?).ok_or(Errno::INVAL)?;
                let until = guest.u64(at + 24)?;
                let absolute = guest.u32(at + 40)? & 1 == 1;
                clocks.push((user, if absolute { until.saturating_sub(now) } else { until }));
            }
            Some(kind @ (1 | 2)) => {
                let errno = host.known(guest.u32(at + 16)?).err().map_or(0, |errno| errno.0);
                ready.push((user, *kind, errno));
            }
            _ => return Err(Errno::INVAL.into()),
        }
    }
    if ready.is_empty()
        && let Some(first) = clocks.iter().map(|(_, wait)| *wait).min()
    {
        host.slept_ns = host.slept_ns.saturating_add(first);
        ready.extend(clocks.iter().filter(|(_, wait)| *wait == first).map(|(user, _)| (*user, 0, 0)));
    }
    let mut at = events;
    for (user, kind, errno) in &ready {
        guest.put(at, &[0; 32])?;
        guest.put_u64(at, *user)?;
        guest.put_u32(at + 8, *errno)?;
        guest.put(at + 10, &[*kind])?;
        at += 32;
    }
    Ok(guest.put_u32(told, u32::try_from(ready.len()).unwrap_or_default())?)
}

fn descriptors(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(WASI, "fd_close", |c: C<'_>, fd: u32| call(c, |_, host| Ok(host.close(fd)?)))?;
    linker.func_wrap(WASI, "fd_renumber", |c: C<'_>, from: u32, to: u32| {
        call(c, |_, host| Ok(host.renumber(from, to)?))
    })?;
    linker.func_wrap(WASI, "fd_fdstat_get", |c: C<'_>, fd: u32, at: u32| {
        call(c, |guest, host| Ok(guest.put(at, &host.fdstat(fd)?)?))
    })?;
    linker.func_wrap(WASI, "fd_fdstat_set_flags", |c: C<'_>, fd: u32, flags: u32| {
        call(c, |_, host| Ok(host.set_flags(fd, flags)?))
    })?;
    linker.func_wrap(WASI, "fd_fdstat_set_rights", |c: C<'_>, fd: u32, _: u64, _: u64| {
        call(c, |_, host| Ok(host.known(fd)?))
    })?;
    // The scratch is called `/`.
    linker.func_wrap(WASI, "fd_prestat_get", |c: C<'_>, fd: u32, at: u32| {
        call(c, |guest, host| {
            host.is_given(fd)?;
            guest.put_u32(at, 0)?;
            Ok(guest.put_u32(at.saturating_add(4), 1)?)
        })
    })?;
    linker.func_wrap(WASI, "fd_prestat_dir_name", |c: C<'_>, fd: u32, at: u32, len: u32| {
        call(c, |guest, host| {
            host.is_given(fd)?;
            if len < 1 { Err(Errno::NAMETOOLONG.into()) } else { Ok(guest.put(at, b"/")?) }
        })
    })?;
    for name in ["fd_datasync", "fd_sync"] {
        linker.func_wrap(WASI, name, |c: C<'_>, fd: u32| call(c, |_, host| Ok(host.known(fd)?)))?;
    }
    linker.func_wrap(WASI, "fd_advise", |c: C<'_>, fd: u32, _: u64, _: u64, _: u32| {
        call(c, |_, host| Ok(host.known(fd)?))
    })?;
    // There are no sockets.
    linker.func_wrap(WASI, "sock_accept", |c: C<'_>, fd: u32, _: u32, _: u32| {
        call(c, |_, host| Ok(host.no_socket(fd)?))
    })?;
    linker.func_wrap(WASI, "sock_recv", |c: C<'_>, fd: u32, _: u32, _: u32, _: u32, _: u32, _: u32| {
        call(c, |_, host| Ok(host.no_socket(fd)?))
    })?;
    linker.func_wrap(WASI, "sock_send", |c: C<'_>, fd: u32, _: u32, _: u32, _: u32, _: u32| {
        call(c, |_, host| Ok(host.no_socket(fd)?))
    })?;
    linker.func_wrap(WASI, "sock_shutdown", |c: C<'_>, fd: u32, _: u32| {
        call(c, |_, host| Ok(host.no_socket(fd)?))
    })?;
    Ok(())
}

fn files(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(WASI, "fd_read", |c: C<'_>, fd: u32, pieces: u32, count: u32, told: u32| {
        call(c, |guest, host| {
            let done = host.read(guest, (fd, pieces, count), None)?;
            Ok(guest.put_u32(told, done)?)
        })
    })?;
    linker.func_wrap(
        WASI,
        "fd_pread",
        |c: C<'_>, fd: u32, pieces: u32, count: u32, at: u64, told: u32| {
            call(c, |guest, host| {
                let done = host.read(guest, (fd, pieces, count), Some(at))?;
                Ok(guest.put_u32(told, done)?)
            })
        },
    )?;
    linker.func_wrap(WASI, "fd_write", |c: C<'_>, fd: u32, pieces: u32, count: u32, told: u32| {
        call(c, |guest, host| {
            let done = host.write(guest, (fd, pieces, count), None)?;
            Ok(guest.put_u32(told, done)?)
        })
    })?;
    linker.func_wrap(
        WASI,
        "fd_pwrite",
        |c: C<'_>, fd: u32, pieces: u32, count: u32, at: u64, told: u32| {
            call(c, |guest, host| {
                let done = host.write(guest, (fd, pieces, count), Some(at))?;
                Ok(guest.put_u32(told, done)?)
            })
        },
    )?;
    linker.func_wrap(WASI, "fd_seek", |c: C<'_>, fd: u32, offset: i64, whence: u32, told: u32| {
        call(c, |guest, host| Ok(guest.put_u64(told, host.seek(fd, offset, whence)?)?))
    })?;
    linker.func_wrap(WASI, "fd_tell", |c: C<'_>, fd: u32, told: u32| {
        call(c, |guest, host| Ok(guest.put_u64(told, host.seek(fd, 0, 1)?)?))
    })?;
    linker.func_wrap(WASI, "fd_allocate", |c: C<'_>, fd: u32, at: u64, len: u64| {
        call(c, |_, host| Ok(host.allocate(fd, at, len)?))
    })?;
    linker.func_wrap(WASI, "fd_filestat_get", |c: C<'_>, fd: u32, at: u32| {
        call(c, |guest, host| Ok(guest.put(at, &host.stat_fd(fd)?)?))
    })?;
    linker.func_wrap(WASI, "fd_filestat_set_size", |c: C<'_>, fd: u32, size: u64| {
        call(c, |_, host| Ok(host.resize(fd, size)?))
    })?;
    // No times are kept.
    linker.func_wrap(WASI, "fd_filestat_set_times", |c: C<'_>, fd: u32, _: u64, _: u64, _: u32| {
        call(c, |_, host| Ok(host.known(fd)?))
    })?;
    linker.func_wrap(WASI, "fd_readdir", |c: C<'_>, fd: u32, at: u32, room: u32, from: u64, told: u32| {
        call(c, |guest, host| {
            let done = host.list(guest, (fd, at, room), from)?;
            Ok(guest.put_u32(told, done)?)
        })
    })?;
    Ok(())
}

/// A path that a program names.
fn path(guest: &Guest<'_>, at: u32, len: u32) -> Result<String, Errno> {
    if len as usize > PATH_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    guest.text(at, len).map(str::to_owned)
}

fn paths(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        WASI,
        "path_open",
        |c: C<'_>,
         fd: u32,
         _: u32,
         at: u32,
         len: u32,
         how: u32,
         rights: u64,
         _: u64,
         flags: u32,
         told: u32| {
            call(c, |guest, host| {
                let path = path(guest, at, len)?;
                let fd = host.open(fd, &path, Opening { how, rights, flags })?;
                Ok(guest.put_u32(told, fd)?)
            })
        },
    )?;
    linker.func_wrap(WASI, "path_create_directory", |c: C<'_>, fd: u32, at: u32, len: u32| {
        call(c, |guest, host| {
            let (from, path) = (host.folder(fd)?, path(guest, at, len)?);
            Ok(host.scratch.make_folder(from, &path)?)
        })
    })?;
    for (name, folder) in [("path_remove_directory", true), ("path_unlink_file", false)] {
        linker.func_wrap(WASI, name, move |c: C<'_>, fd: u32, at: u32, len: u32| {
            call(c, |guest, host| {
                let (from, path) = (host.folder(fd)?, path(guest, at, len)?);
                Ok(host.scratch.remove(from, &path, folder)?)
            })
        })?;
    }
    linker.func_wrap(
        WASI,
        "path_rename",
        |c: C<'_>, fd: u32, at: u32, len: u32, to: u32, to_at: u32, to_len: u32| {
            call(c, |guest, host| {
                let old = (host.folder(fd)?, path(guest, at, len)?);
                let new = (host.folder(to)?, path(guest, to_at, to_len)?);
                // The whole scratch may be looked at.
                host.moved(1 << 16);
                Ok(host.scratch.rename((old.0, &old.1), (new.0, &new.1))?)
            })
        },
    )?;
    linker.func_wrap(
        WASI,
        "path_filestat_get",
        |c: C<'_>, fd: u32, _: u32, at: u32, len: u32, to: u32| {
            call(c, |guest, host| {
                let path = path(guest, at, len)?;
                Ok(guest.put(to, &host.stat_path(fd, &path)?)?)
            })
        },
    )?;
    linker.func_wrap(
        WASI,
        "path_filestat_set_times",
        |c: C<'_>, fd: u32, _: u32, at: u32, len: u32, _: u64, _: u64, _: u32| {
            call(c, |guest, host| {
                let path = path(guest, at, len)?;
                Ok(host.stat_path(fd, &path).map(drop)?)
            })
        },
    )?;
    // There are no links, so none is read or made.
    linker.func_wrap(
        WASI,
        "path_readlink",
        |c: C<'_>, fd: u32, at: u32, len: u32, _: u32, _: u32, _: u32| {
            call(c, |guest, host| {
                let path = path(guest, at, len)?;
                host.stat_path(fd, &path)?;
                Err(Errno::INVAL.into())
            })
        },
    )?;
    linker.func_wrap(WASI, "path_symlink", |c: C<'_>, _: u32, _: u32, _: u32, _: u32, _: u32| {
        call(c, |_, _| Err(Errno::NOTSUP.into()))
    })?;
    linker.func_wrap(
        WASI,
        "path_link",
        |c: C<'_>, _: u32, _: u32, _: u32, _: u32, _: u32, _: u32, _: u32| {
            call(c, |_, _| Err(Errno::NOTSUP.into()))
        },
    )?;
    Ok(())
}
