//! Machines that lack something: what plinth needs is asked for in one line, what it can do without is not missed.

use crate::{
    kv::failed,
    machine::{Mounted, Sysctl, as_nobody},
    node::{Bench, Node, private_dir, refusal},
    outcome::{Outcome, ensure, ensure_contains},
};

pub(super) fn too_little_lockable_memory_is_refused(bench: &Bench) -> Outcome {
    let dir = private_dir()?;
    let refused = refusal(bench.command_under(&["prlimit", "--memlock=65536:65536"], dir.path(), &[]))?;
    ensure(refused.code == Some(1), || format!("exit code {:?}: {}", refused.code, refused.line))?;
    ensure_contains(&refused.line, &["locked memory is 64 KiB", "512 KiB", "ulimit -l"])
}

/// The value 1 forbids io_uring to those without CAP_SYS_ADMIN only: the rest of the machine goes on.
pub(super) fn a_machine_without_io_uring_is_refused(bench: &Bench) -> Outcome {
    let wrapper = as_nobody(bench)?;
    let dir = private_dir()?;
    std::os::unix::fs::chown(dir.path(), Some(65534), Some(65534))?;
    let forbidden = Sysctl::set("kernel/io_uring_disabled", "1")?;
    let refused = refusal(bench.command_under(wrapper, dir.path(), &[]))?;
    drop(forbidden);
    ensure(refused.code == Some(1), || format!("exit code {:?}: {}", refused.code, refused.line))?;
    ensure_contains(&refused.line, &["io_uring is switched off", "kernel.io_uring_disabled = 1", "sysctl"])?;
    // The same user on the same directory, once it is allowed.
    Node::start(bench.command_under(wrapper, dir.path(), &[]))?.kill()
}

pub(super) fn without_newer_ring_features_it_serves_all_the_same(bench: &Bench) -> Outcome {
    let dir = private_dir()?;
    let start = || {
        let mut command = bench.command(dir.path(), &["--checkpoint-log-bytes", "65536"]);
        command.env("PLINTH_HIDE_URING_FEATURES", "all");
        Node::start(command)
    };
    let node = start()?;
    let kv = node.kv()?;
    let value = vec![b'v'; 3000];
    for i in 0..300 {
        kv.put(&format!("key/{i}"), &value).map_err(failed("put"))?;
    }
    node.kill()?;
    let node = start()?;
    let kv = node.kv()?;
    let count = kv.count("key/").map_err(failed("count"))?;
    ensure(count == 300, || format!("{count} of 300 keys are there"))?;
    let read = kv.get("key/299").map_err(failed("get"))?;
    ensure(read.as_deref() == Some(&value[..]), || format!("the last value is {read:?}"))?;
    node.stop()?;
    bench.ensure_sound(dir.path())
}

pub(super) fn a_file_system_without_direct_io_is_refused(bench: &Bench) -> Outcome {
    let ramfs = Mounted::ramfs()?;
    let refused = bench.refusal(&ramfs.path().join("data"), &[])?;
    ensure(refused.code == Some(1), || format!("exit code {:?}: {}", refused.code, refused.line))?;
    ensure_contains(&refused.line, &["O_DIRECT", &ramfs.path().display().to_string()])
}
