#![no_main]

libfuzzer_sys::fuzz_target!(init: lm_fuzz::let_panics_be_caught(), |bytes: &[u8]| {
    lm_fuzz::targets::merges(bytes);
});
