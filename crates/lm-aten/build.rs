//! Builds the C++ part against libtorch's headers.

#[cfg(feature = "tch")]
#[path = "../../scripts/libtorch_headers.rs"]
mod libtorch_headers;

fn main() {
    println!("cargo::rerun-if-changed=src/shim.cpp");
    #[cfg(feature = "tch")]
    match libtorch_headers::build() {
        Ok((_, mut build)) => build.file("src/shim.cpp").compile("lm_aten_shim"),
        Err(missing) => println!("cargo::error={missing}"),
    }
}
