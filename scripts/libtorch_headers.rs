// A part of the build scripts of lm-aten and lm-c10d: what C++ on libtorch is built with.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// libtorch's folder, and a build of C++ against its headers; or what is missing, and what to do.
pub fn build() -> Result<(PathBuf, cc::Build), String> {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    println!("cargo::rerun-if-env-changed=LIBTORCH_USE_PYTORCH");
    let folder = env::var_os("LIBTORCH").map(PathBuf::from).or_else(of_python);
    let folder = folder.ok_or("LIBTORCH does not say where libtorch is: run scripts/setup_libtorch.sh")?;
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").warnings(false).define("_GLIBCXX_USE_CXX11_ABI", "1");
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts");
    println!("cargo::rerun-if-changed={}", beside.join("libtorch_caught.hpp").display());
    build.include(beside);
    for headers in ["include", "include/torch/csrc/api/include"] {
        system(&mut build, &folder.join(headers));
    }
    Ok((folder, build))
}

/// Where python3 has PyTorch, if `tch` is to take that one.
fn of_python() -> Option<PathBuf> {
    env::var_os("LIBTORCH_USE_PYTORCH")?;
    let asked = "import os, torch; print(os.path.dirname(torch.__file__))";
    let answer = Command::new("python3").args(["-c", asked]).output().ok().filter(|answer| answer.status.success())?;
    Some(String::from_utf8(answer.stdout).ok()?.trim().into())
}

/// Headers of others, whose warnings are theirs.
pub fn system(build: &mut cc::Build, folder: &Path) {
    if build.get_compiler().is_like_msvc() {
        build.include(folder);
    } else {
        build.flag("-isystem").flag(folder);
    }
}
