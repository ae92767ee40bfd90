//! Builds the C++ part against libtorch's headers, and those of Gloo or of NVIDIA's wheels.

#[cfg(any(feature = "gloo", feature = "nccl"))]
#[path = "../../scripts/libtorch_headers.rs"]
mod libtorch_headers;

#[cfg(any(feature = "gloo", feature = "nccl"))]
mod shim {
    use std::env;
    use std::path::{Path, PathBuf};

    use super::libtorch_headers::{self, system};

    /// What is missing, and what to do.
    type Missing = String;

    pub fn build() -> Result<(), Missing> {
        for name in ["GLOO_INCLUDE", "CUDA_HOME"] {
            println!("cargo::rerun-if-env-changed={name}");
        }
        println!("cargo::rerun-if-changed=src/shim.cpp");
        let (torch, mut build) = libtorch_headers::build()?;
        build.file("src/shim.cpp").define("USE_DISTRIBUTED", None);
        if cfg!(feature = "gloo") {
            let folder = env::var_os("GLOO_INCLUDE").map_or_else(|| "/usr/include".into(), PathBuf::from);
            if !folder.join("gloo/context.h").exists() {
                return Err(format!(
                    "feature gloo needs the headers of Gloo, and {} has no gloo/context.h: apt-get install libgloo-dev, or set GLOO_INCLUDE",
                    folder.display()
                ));
            }
            // The compiler's own folders are searched last, as they are.
            if folder != Path::new("/usr/include") {
                system(&mut build, &folder);
            }
            build.define("USE_C10D_GLOO", None);
        }
        if cfg!(feature = "nccl") {
            let folders = cuda_folders(&torch);
            for header in CUDA_HEADERS {
                let in_folder = folders.iter().find(|folder| folder.join(header).exists());
                match in_folder {
                    Some(folder) => system(&mut build, folder),
                    None if Path::new("/usr/include").join(header).exists() => {}
                    None => return Err(no_header(header, &torch)),
                }
            }
            build.define("USE_C10D_NCCL", None).define("USE_CUDA", None);
            println!("cargo::rustc-link-lib=dylib=torch_cuda");
            println!("cargo::rustc-link-lib=dylib=c10_cuda");
        }
        build.compile("lm_c10d_shim");
        Ok(())
    }

    /// One header of each part of CUDA that libtorch's own headers include.
    const CUDA_HEADERS: [&str; 7] = [
        "nccl.h",
        "cuda_runtime_api.h",
        "crt/host_defines.h",
        "nv/target",
        "cublas_v2.h",
        "cusolverDn.h",
        "cusparse.h",
    ];

    /// Where CUDA's headers may be: in NVIDIA's wheels beside PyTorch's, and in the toolkit.
    fn cuda_folders(torch: &Path) -> Vec<PathBuf> {
        let wheels = torch.join("../nvidia").read_dir().into_iter().flatten().flatten();
        let mut folders: Vec<_> = wheels.map(|wheel| wheel.path().join("include")).collect();
        folders.sort();
        folders.extend(env::var_os("CUDA_HOME").map(|home| Path::new(&home).join("include")));
        folders.push("/usr/local/cuda/include".into());
        folders
    }

    fn no_header(header: &str, torch: &Path) -> Missing {
        format!(
            "feature nccl needs {header}, which is neither in {}, where scripts/setup_libtorch.sh puts it, nor in CUDA_HOME, nor in /usr/include",
            torch.join("../nvidia").display()
        )
    }
}

fn main() {
    #[cfg(any(feature = "gloo", feature = "nccl"))]
    if let Err(missing) = shim::build() {
        println!("cargo::error={missing}");
    }
}
