//! The machine that the program runs on, for people.

use std::env::consts::{ARCH, OS};
use std::thread::available_parallelism;

/// The name of the machine.
pub fn host() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

/// What the processor calls itself, else its architecture, and how many threads it runs at a time for this program.
pub fn processor() -> String {
    let name = model().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| ARCH.to_owned());
    available_parallelism().map_or(name.clone(), |threads| format!("{name}, {threads} threads"))
}

/// Operating system and architecture.
pub fn system() -> String {
    format!("{OS} {ARCH}")
}

#[cfg(target_os = "linux")]
fn model() -> Option<String> {
    model_of(&std::fs::read_to_string("/proc/cpuinfo").ok()?)
}

#[cfg(target_os = "macos")]
fn model() -> Option<String> {
    let said = std::process::Command::new("sysctl").args(["-n", "machdep.cpu.brand_string"]).output().ok()?;
    String::from_utf8(said.stdout).ok()
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn model() -> Option<String> {
    std::env::var("PROCESSOR_IDENTIFIER").ok()
}

/// The name in `/proc/cpuinfo`; processors by Arm have none there.
#[cfg(target_os = "linux")]
fn model_of(cpuinfo: &str) -> Option<String> {
    let fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    fields.into_iter().find(|(name, _)| name.trim() == "model name").map(|(_, name)| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_processor_by_name() {
        let cpuinfo =
            "processor\t: 0\nmodel\t\t: 1\nmodel name\t: Some CPU @ 2.00GHz\n\nprocessor\t: 1\nmodel name\t: Other\n";
        assert_eq!(model_of(cpuinfo).as_deref(), Some("Some CPU @ 2.00GHz"));
        assert_eq!(model_of("processor\t: 0\nBogoMIPS\t: 50.00\n"), None);
    }

    #[test]
    fn nothing_is_empty() {
        assert!([host(), processor(), system()].iter().all(|text| !text.trim().is_empty()));
    }
}
