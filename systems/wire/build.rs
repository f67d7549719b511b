//! Compiles assets/proto/kaosnet.proto to Rust, without a `protoc` on the machine.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let proto = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../assets/proto");
    println!("cargo::rerun-if-changed={}", proto.join("kaosnet.proto").display());
    let files = protox::compile(["kaosnet.proto"], [&proto])?;
    prost_build::Config::new()
        // std's HashMap has an order that differs per process; the bytes of a message must not.
        .btree_map(["."])
        // Plugins and tools read the same types as JSON, where a field that is left out is its default.
        .type_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)]")
        .message_attribute(".", "#[serde(default)]")
        .enum_attribute(".", "#[serde(rename_all = \"snake_case\")]")
        .compile_fds(files)?;
    Ok(())
}
