//! `--device` and `--devices`: which of the backends compiled into this binary computes, and where.
//!
//! Names are `backend:device`, as `--device list` prints them: `cpu`, `libtorch:cuda:0`, `wgpu:1`. The beginning of a name
//! means the first device under it: `libtorch:cuda` is `libtorch:cuda:0`, `libtorch` the best device that libtorch has.

#[cfg(feature = "cuda")]
mod cuda;
mod found;
#[cfg(feature = "tch")]
mod libtorch;
#[cfg(feature = "wgpu")]
mod wgpu;

pub(crate) mod precision;

use burn::tensor::Device;
#[cfg(feature = "flex")]
use lm_models::ops;

use crate::args::Autotune;
use found::{Found, Usable};

/// A device that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("--device {name}: {reason}; --device list shows what this program can use")]
pub struct DeviceError {
    name: String,
    reason: String,
}

/// A backend, compiled in or not.
struct Backend {
    /// How the names of its devices begin.
    names: &'static [&'static str],
    /// The Cargo feature that compiles it in.
    feature: &'static str,
    /// What it is, for people.
    what: &'static str,
    /// Looks what there is; none if it is not compiled in.
    find: Option<fn() -> Found>,
}

/// All backends, in the order in which `auto` asks them.
fn backends() -> [Backend; 4] {
    macro_rules! find {
        ($feature:literal, $find:expr) => {{
            #[cfg(feature = $feature)]
            let find: Option<fn() -> Found> = Some($find);
            #[cfg(not(feature = $feature))]
            let find: Option<fn() -> Found> = None;
            find
        }};
    }
    [
        Backend {
            names: &["libtorch"],
            feature: "tch",
            what: "PyTorch's library: CUDA, Apple's MPS, the processor",
            find: find!("tch", libtorch::find),
        },
        Backend {
            names: &["wgpu", "vulkan", "metal", "dx12", "gl"],
            feature: "wgpu",
            what: "graphics adapters by Vulkan, Metal, DirectX 12 or OpenGL",
            find: find!("wgpu", wgpu::find),
        },
        Backend {
            names: &["cpu", "flex"],
            feature: "flex",
            what: "the processor, in pure Rust",
            find: find!("flex", flex),
        },
        Backend {
            names: &["cuda"],
            feature: "cuda",
            what: "Burn's own CUDA backend, untested here: libtorch:cuda is the one to use",
            find: find!("cuda", cuda::find),
        },
    ]
}

#[cfg(feature = "flex")]
fn flex() -> Found {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let instructions = [
        ops::vector_instructions().map(|name| format!(", {name}")),
        ops::bfloat16_instructions().map(|name| format!(", bfloat16 by {name}")),
    ];
    let instructions = instructions.into_iter().flatten().collect::<String>();
    let what = format!("the processor, {threads} threads{instructions}, in pure Rust (flex)");
    let usable = Usable { name: "cpu".into(), what, fast: false, device: Device::flex() };
    Found { usable: vec![usable], missing: Vec::new() }
}

/// Whether it is the processor by this project's own backend, whose results are the same bits every time.
pub(crate) fn is_flex(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    let flex = *device == Device::flex();
    #[cfg(not(feature = "flex"))]
    let flex = {
        let _ = device;
        false
    };
    flex
}

/// What to do for who asks for a GPU by a name that is none.
fn gpus(backends: &[Backend]) -> String {
    let of = |feature: &str, name: &str| match backends.iter().find(|backend| backend.feature == feature) {
        Some(Backend { find: Some(_), .. }) => format!("name --device {name}"),
        _ => format!("build with `--features {feature}` and name --device {name}"),
    };
    format!("for an NVIDIA GPU {}; for another {}", of("tch", "libtorch:cuda"), of("wgpu", "wgpu"))
}

/// Whether `asked` is the device's name, or the beginning of it that ends at a colon.
fn means(asked: &str, name: &str) -> bool {
    name.strip_prefix(asked).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

/// The device of this name, outside autodiff; `auto` takes the fastest kind there is.
pub fn open(name: &str) -> Result<Device, DeviceError> {
    let chosen = find(name)?;
    if chosen.name != name {
        tracing::info!("--device {name} is {}: {}", chosen.name, chosen.what);
    }
    Ok(chosen.device)
}

fn find(name: &str) -> Result<Usable, DeviceError> {
    let backends = backends();
    let chosen = if name == "auto" { fastest(&backends) } else { lookup(name, &backends) };
    chosen.map_err(|reason| DeviceError { name: name.to_owned(), reason })
}

/// The device that a process takes, by its number among those of its machine: where a name without a number stands for
/// several devices, each process takes another.
pub(crate) fn of_process(name: &str, number: usize) -> String {
    let Ok(first) = find(name) else { return name.to_owned() };
    let Some((kind, "0")) = first.name.rsplit_once(':').filter(|_| first.name != name) else { return name.to_owned() };
    let found = backends().into_iter().filter_map(|backend| backend.find).flat_map(|find| find().usable);
    let mut names: Vec<_> = found.map(|usable| usable.name).filter(|name| means(kind, name)).collect();
    names.swap_remove(number % names.len())
}

/// The full names of the devices of these names, separated by commas: `cpu` for `auto` where there is no other.
pub(crate) fn full_names(names: &str) -> String {
    let full = |name: &str| find(name).map_or_else(|_| name.to_owned(), |usable| usable.name);
    names.split(',').map(|name| full(name.trim())).collect::<Vec<_>>().join(",")
}

/// The devices of these names, separated by commas.
pub(crate) fn open_all(names: &str) -> Result<Vec<Device>, DeviceError> {
    names.split(',').map(|name| open(name.trim())).collect()
}

/// Whether a device computes in this machine's own memory.
pub(crate) fn in_main_memory(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    if *device == Device::flex() {
        return true;
    }
    #[cfg(feature = "tch")]
    if libtorch::is_processor(device) {
        return true;
    }
    let _ = device;
    false
}

/// Tells the backend of a device what it wants to know before the first tensor, and opens the device.
///
/// # Errors
/// Why the device that was found does not open.
pub fn prepare(name: &str, device: &Device, autotune: Option<Autotune>) -> Result<(), DeviceError> {
    #[cfg(feature = "wgpu")]
    wgpu::prepare(device, autotune).map_err(|reason| DeviceError { name: name.to_owned(), reason })?;
    #[cfg(not(feature = "wgpu"))]
    let _ = (name, device, autotune);
    Ok(())
}

/// The first GPU, or else the processor: by flex, if it is there.
fn fastest(backends: &[Backend]) -> Result<Usable, String> {
    let mut usable: Vec<_> = backends.iter().filter_map(|b| b.find).flat_map(|find| find().usable).collect();
    let cpu = || usable.iter().position(|device| device.name == "cpu");
    match usable.iter().position(|device| device.fast).or_else(cpu) {
        Some(best) => Ok(usable.swap_remove(best)),
        // libtorch alone, on its processor.
        None => usable.pop().ok_or_else(|| "this build has no backend: build with `--features flex`".to_owned()),
    }
}

/// The device of this name, or why there is none.
fn lookup(name: &str, backends: &[Backend]) -> Result<Usable, String> {
    // `flex` is the backend's name, `cpu` what it runs on.
    let name = if name == "flex" { "cpu" } else { name };
    let first = name.split(':').next().unwrap_or_default();
    let Some(backend) = backends.iter().find(|backend| backend.names.contains(&first)) else {
        if ["gpu", "nvidia", "rocm", "mps", "xpu"].contains(&first) {
            return Err(format!("no such device; {}", gpus(backends)));
        }
        let known = ["auto", "list"].into_iter().chain(backends.iter().flat_map(|b| b.names.iter().copied()));
        let hint = crate::args::closest(first, known).map(|near| format!("; did you mean {near}?"));
        return Err(format!("no such device{}", hint.unwrap_or_default()));
    };
    let Some(find) = backend.find else {
        if first == "cuda" {
            return Err(format!(
                "this program was built without it: `--features cuda` is Burn's own backend, untested here; {}",
                gpus(backends)
            ));
        }
        return Err(format!("this program was built without it; build with `--features {}`", backend.feature));
    };
    let Found { usable, missing } = find();
    let names: Vec<String> = usable.iter().map(|device| device.name.clone()).collect();
    if let Some(device) = usable.into_iter().find(|device| means(name, &device.name)) {
        return Ok(device);
    }
    if let Some((_, reason)) = missing.into_iter().find(|(missing, _)| means(missing, name)) {
        return Err(reason);
    }
    Err(match names.is_empty() {
        true => format!("{first} finds nothing on this machine"),
        false => format!("{first} finds {} on this machine", names.join(", ")),
    })
}

/// The text of `--device list`: what this binary can use on this machine, and for the rest why not.
pub(crate) fn list() -> String {
    let (mut usable, mut not) = (String::new(), String::new());
    for backend in backends() {
        match backend.find {
            Some(find) => {
                let found = find();
                for device in found.usable {
                    usable += &format!("  {:18} {}\n", device.name, device.what);
                }
                for (name, reason) in found.missing {
                    not += &format!("  {name:18} {reason}\n");
                }
            }
            None => {
                not += &format!(
                    "  {:18} not in this program ({}): build with `--features {}`\n",
                    backend.names[0], backend.what, backend.feature
                );
            }
        }
    }
    let usable = if usable.is_empty() { "  nothing: this build has no backend\n".to_owned() } else { usable };
    let not = if not.is_empty() { not } else { format!("Not usable:\n{not}") };
    format!("Usable with --device:\n{usable}{not}auto takes the first GPU in this list, or else cpu.\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(name: &str) -> String {
        open(name).unwrap_err().to_string()
    }

    #[test]
    fn a_name_means_the_first_device_that_begins_with_it() {
        assert!(means("libtorch", "libtorch:cuda:0"));
        assert!(means("libtorch:cuda", "libtorch:cuda:0"));
        assert!(means("libtorch:cuda:0", "libtorch:cuda:0"));
        assert!(!means("libtorch:cuda:1", "libtorch:cuda:10"));
        assert!(!means("lib", "libtorch:cpu"));
        assert!(!means("libtorch:cpu:0", "libtorch:cpu"));
    }

    #[test]
    fn unknown_names_are_told_with_the_nearest() {
        assert!(reason("libtorhc:cuda").contains("did you mean libtorch?"), "{}", reason("libtorhc:cuda"));
        assert!(reason("gpu").contains("no such device; "), "{}", reason("gpu"));
        assert!(reason("").starts_with("--device : no such device"), "{}", reason(""));
    }

    #[test]
    fn a_backend_that_is_not_compiled_in_names_its_feature() {
        for backend in backends().iter().filter(|backend| backend.find.is_none()) {
            let name = format!("{}:0", backend.names[0]);
            assert!(reason(&name).contains(&format!("--features {}", backend.feature)), "{}", reason(&name));
            assert!(list().contains(&format!("--features {}", backend.feature)));
        }
    }

    #[test]
    fn every_listed_device_opens() {
        for backend in backends() {
            for device in backend.find.map(|find| find().usable).unwrap_or_default() {
                assert_eq!(open(&device.name).unwrap(), device.device, "{}", device.name);
                assert!(list().contains(&device.what));
            }
        }
    }

    #[cfg(feature = "flex")]
    #[test]
    fn the_processor_has_two_names() {
        assert_eq!(open("flex").unwrap(), Device::flex());
        assert_eq!(open_all("cpu, flex").unwrap(), [Device::flex(), Device::flex()]);
        assert!(open_all("cpu,").is_err());
        assert!(in_main_memory(&Device::flex()));
        assert!(reason("cpu:1").contains("cpu finds cpu on this machine"), "{}", reason("cpu:1"));
    }

    #[cfg(feature = "tch")]
    #[test]
    fn libtorch_always_has_the_processor() {
        assert!(open("libtorch:cpu").is_ok());
        assert!(open("libtorch").is_ok());
        let reason = reason("libtorch:cuda:99");
        assert!(reason.contains("NVIDIA") || reason.contains("finds libtorch:cuda:0"), "{reason}");
    }
}
