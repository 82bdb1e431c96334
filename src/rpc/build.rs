//! Compiles `proto/*.proto` to Rust with a compiler written in Rust: no protoc on the build machine.

use std::error::Error;

const FILES: [&str; 6] =
    ["etcdserverpb.proto", "mvccpb.proto", "authpb.proto", "v3lockpb.proto", "v3electionpb.proto", "health.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(FILES, ["proto"])?;
    // `Bytes` fields share the request's buffer instead of copying keys and values out of it.
    prost_build::Config::new().bytes(["."]).compile_fds(files)?;
    Ok(())
}
