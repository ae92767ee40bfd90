//! Build script of every package with programs or tests. With the feature `tch` it says what to do where libtorch is
//! missing, and writes libtorch's folder into what is linked, which then runs without LD_LIBRARY_PATH.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    println!("cargo::rerun-if-env-changed=LIBTORCH_USE_PYTORCH");
    if env::var_os("CARGO_FEATURE_TCH").is_none() || env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        return;
    }
    let Ok(folder) = env::var("LIBTORCH") else {
        println!(
            "cargo::error=feature tch needs libtorch, and LIBTORCH does not say where it is: run \
             scripts/setup_libtorch.sh, which installs it and tells cargo"
        );
        return;
    };
    let lib = Path::new(&folder).join("lib");
    let found = ["libtorch_cpu.so", "libtorch_cpu.dylib", "torch_cpu.dll"].map(|name| lib.join(name));
    let Some(found) = found.iter().find(|path| path.exists()) else {
        println!(
            "cargo::error=LIBTORCH={folder}: there is no lib/libtorch_cpu.so in that folder: run \
             scripts/setup_libtorch.sh, or scripts/setup_libtorch.sh --existing FOLDER for a PyTorch that is installed"
        );
        return;
    };
    // The system's loader tells a library that is gone in its own words; `cargo run` shall say what to do.
    println!("cargo::rerun-if-changed={}", found.display());
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os != "windows") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
    }
}
