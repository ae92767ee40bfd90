#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lm_fuzz::targets::dataset_infos(bytes));
