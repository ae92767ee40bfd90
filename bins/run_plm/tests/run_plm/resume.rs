//! A run that goes on from a checkpoint equals the one that was never broken; more of it in the tests of run_mlm.

use crate::run::resumes_exactly;

#[test]
fn mid_epoch_and_across_epochs_with_accumulation_and_dropout() {
    resumes_exactly("--gradient_accumulation_steps 2 --max_steps 9 --eval_strategy steps --eval_steps 4", &[2, 5]);
}

#[test]
fn while_streaming() {
    resumes_exactly("--streaming --max_steps 8", &[3]);
    resumes_exactly("--streaming --shuffle_buffer_size 8 --max_steps 6", &[2]);
}

/// Some of XLNet's parameters have three dimensions.
#[test]
fn with_every_optimizer() {
    for optimizer in ["adafactor", "sgd", "adagrad", "rmsprop", "adamw_8bit"] {
        resumes_exactly(&format!("--optim {optimizer} --max_steps 3"), &[2]);
    }
}

#[cfg(feature = "tch")]
#[test]
fn on_libtorch() {
    resumes_exactly("--device libtorch:cpu --max_steps 6", &[3]);
    let model = "--config_overrides d_model=32,n_layer=2,n_head=4,d_inner=64,dropout=0";
    crate::run::moves_between_the_cpu_and("libtorch:cpu", model);
}

#[cfg(feature = "wgpu")]
#[test]
fn on_wgpu() {
    resumes_exactly("--device wgpu --max_steps 6", &[3]);
    let model = "--config_overrides d_model=32,n_layer=2,n_head=4,d_inner=64,dropout=0";
    crate::run::moves_between_the_cpu_and("wgpu", model);
}
