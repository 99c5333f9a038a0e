//! Compiles the catalogue's `.proto` files to descriptors, with the field options that the catalogue is read from.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../proto");
    let mut compiler = protox::Compiler::new(["../proto"])?;
    compiler.include_imports(true).open_file("liaison/casework/v1/content.proto")?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("casework.descriptors.bin"), compiler.encode_file_descriptor_set())?;
    Ok(())
}
