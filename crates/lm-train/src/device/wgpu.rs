//! Graphics adapters, by Vulkan, Metal, DirectX 12 or OpenGL.

use burn::backend::DispatchDevice;
use burn::cubecl::config::autotune::{AutotuneLevel, BenchConfig};
use burn::cubecl::config::cache::CacheConfig;
use burn::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use burn::cubecl::device::{Device as CubeDevice, WgpuBackend, WgpuDevice, WgpuDeviceKind};
use burn::cubecl::future::block_on;
use burn::cubecl::wgpu::{AutoGraphicsApi, RuntimeOptions, WgpuInitError, try_init_setup};
use burn::tensor::Device;
use burn::tensor::wgpu::wgpu::{AdapterInfo, Backend, DeviceType, Instance, InstanceDescriptor};

use super::found::{Found, Usable};
use crate::args::Autotune;
use crate::sys::cache_dir;

/// The ways to an adapter, the best first: what `--device` and people call them, what wgpu and Burn do.
const APIS: &[(&str, &str, Backend, WgpuBackend)] = &[
    ("vulkan", "Vulkan", Backend::Vulkan, WgpuBackend::Vulkan),
    ("metal", "Metal", Backend::Metal, WgpuBackend::Metal),
    ("dx12", "DirectX 12", Backend::Dx12, WgpuBackend::Dx12),
    ("gl", "OpenGL", Backend::Gl, WgpuBackend::Gl),
];

/// The adapters that each way leads to, `vulkan:N` and the like; those of the best way with hardware, or else the best
/// way with anything, are `wgpu:N` as well.
pub(super) fn find() -> Found {
    let ways: Vec<_> = APIS.iter().map(|(name, label, api, pinned)| (name, label, pinned, adapters(*api))).collect();
    let has_hardware = |infos: &[AdapterInfo]| infos.iter().any(|info| info.device_type != DeviceType::Cpu);
    let best = ways.iter().position(|(.., infos)| has_hardware(infos));
    let best = best.or_else(|| ways.iter().position(|(.., infos)| !infos.is_empty()));
    let mut found = Found::default();
    for (way, name) in best.iter().map(|&best| (best, "wgpu")).chain((0..ways.len()).map(|way| (way, *ways[way].0))) {
        let (_, label, pinned, infos) = &ways[way];
        for (index, (info, kind)) in infos.iter().zip(kinds(infos)).enumerate() {
            found.usable.push(Usable {
                name: format!("{name}:{index}"),
                what: format!("{}, {} by {label}", info.name, kind_name(info.device_type)),
                fast: info.device_type != DeviceType::Cpu,
                device: WgpuDevice::new(kind).on(**pinned).into(),
            });
        }
    }
    if found.usable.is_empty() {
        let reason = "no adapter was found: is its driver for Vulkan, Metal or DirectX 12 installed?";
        found.missing.push(("wgpu", reason.to_owned()));
    }
    found
}

/// What one way leads to; asked without opening anything.
fn adapters(api: Backend) -> Vec<AdapterInfo> {
    let instance =
        Instance::new(InstanceDescriptor { backends: api.into(), ..InstanceDescriptor::new_without_display_handle() });
    block_on(instance.enumerate_adapters(api.into())).iter().map(|adapter| adapter.get_info()).collect()
}

/// Burn counts the adapters of each kind by themselves.
fn kinds(infos: &[AdapterInfo]) -> impl Iterator<Item = WgpuDeviceKind> {
    infos.iter().enumerate().map(move |(place, info)| {
        let index = infos[..place].iter().filter(|before| before.device_type == info.device_type).count();
        match info.device_type {
            DeviceType::DiscreteGpu => WgpuDeviceKind::DiscreteGpu(index),
            DeviceType::IntegratedGpu => WgpuDeviceKind::IntegratedGpu(index),
            DeviceType::VirtualGpu => WgpuDeviceKind::VirtualGpu(index),
            DeviceType::Cpu => WgpuDeviceKind::Cpu,
            DeviceType::Other => WgpuDeviceKind::Other(index),
        }
    })
}

fn kind_name(kind: DeviceType) -> &'static str {
    match kind {
        DeviceType::DiscreteGpu => "a GPU",
        DeviceType::IntegratedGpu => "a GPU in the processor",
        DeviceType::VirtualGpu => "a virtual GPU",
        DeviceType::Cpu => "a program on the processor, slow",
        DeviceType::Other => "a device",
    }
}

/// Opens an adapter. What is found out about its kernels is kept in the cache folder; where a program stands in for the
/// GPU, which makes that take minutes, little is found out unless asked for.
pub(super) fn prepare(device: &Device, autotune: Option<Autotune>) -> Result<(), String> {
    let DispatchDevice::Cube(CubeDevice::Wgpu(adapter)) = device.as_dispatch() else { return Ok(()) };
    let autotune = autotune.unwrap_or_else(|| {
        if adapter.kind != WgpuDeviceKind::Cpu {
            return Autotune::Full;
        }
        tracing::info!("a program stands in for the GPU: its kernels are chosen by --autotune minimal");
        Autotune::Minimal
    });
    configure(autotune);
    match try_init_setup::<AutoGraphicsApi>(adapter, RuntimeOptions::default()) {
        // Two runs of one process, as in tests, share it.
        Ok(_) | Err(WgpuInitError::Registration { .. }) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Sets CubeCL up, where the user's cubecl.toml and environment leave it open.
fn configure(autotune: Autotune) {
    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    if matches!(config.environment.path, CacheConfig::Target)
        && let Some(folder) = cache_dir()
    {
        config.environment.path = CacheConfig::Directory(folder.join("kernels"));
    }
    if autotune == Autotune::Minimal {
        // The level says how near two sizes must be to share what was measured: the other end, "full", would measure for
        // every length of a batch.
        config.autotune.level = AutotuneLevel::Minimal;
        config.autotune.disable_short_circuit = true;
        config.autotune.bench = BenchConfig { min_samples: 1, max_samples: 1, ..BenchConfig::default() };
    }
    // The first call of a process decides.
    CubeClRuntimeConfig::try_set(config);
}
