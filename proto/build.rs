//! Generates the wire types without `protoc`: protox compiles the `.proto` files to descriptors.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

/// Types that hold what an officer wrote or who the officer is: their `Debug` is written by hand and redacts.
const REDACTED: [&str; 3] = ["Plaintext", "OfficerSignature", "OfficerCredential"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = ["envelope", "officer", "leaf", "receipt", "exchange", "log", "directory", "repair"]
        .map(|name| format!("liaison/exchange/v1/{name}.proto"));
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("exchange.descriptors.bin"), descriptors.encode_to_vec())?;
    let services = descriptors.file.iter().flat_map(|file| {
        let package = file.package().to_owned();
        file.service.iter().map(move |service| (format!("{package}.{}", service.name()), service))
    });
    let methods = services.flat_map(|(name, service)| {
        service.method.iter().map(move |method| format!("    \"{name}/{}\",\n", method.name())).collect::<Vec<_>>()
    });
    fs::write(out.join("methods.rs"), format!("&[\n{}]", methods.collect::<String>()))?;
    tonic_prost_build::configure()
        .bytes(".liaison.exchange.v1")
        // One encoding: what an authority signs must not depend on the order of a map.
        .btree_map(".liaison.exchange.v1")
        .skip_debug(REDACTED.map(|name| format!(".liaison.exchange.v1.{name}")))
        .compile_fds(descriptors)?;
    Ok(())
}
