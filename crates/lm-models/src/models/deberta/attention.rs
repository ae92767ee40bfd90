//! What the versions of DeBERTa make of content and of distances before attention compares them.

use burn::module::{Module, ModuleDisplay, Param};
use burn::tensor::Tensor;

use super::config::DebertaConfig;
use crate::blocks::{Linear, projections};
use crate::inputs::Mode;
use crate::ops;
use crate::parameters::Builder;

/// What attention makes of content and of distances, in which the versions differ.
pub trait Attend: Module + ModuleDisplay + Sync + 'static {
    /// New, empty projections.
    fn new(config: &DebertaConfig, builder: &Builder) -> Self;

    /// Queries, keys and values of hidden states, each [rows, hidden].
    fn queries_keys_values(&self, x: Tensor<2>, heads: usize, mode: &Mode) -> [Tensor<2>; 3];

    /// Keys and queries of distances, where there are any; [distances, hidden].
    fn distances(&self, table: Tensor<2>, config: &DebertaConfig, mode: &Mode) -> [Option<Tensor<2>>; 2];

    /// How many terms a score has, those that are always 0 included.
    fn terms(config: &DebertaConfig) -> usize;
}

/// The first version's: one product for queries, keys and values, which lie together head by head.
#[derive(Module, Debug)]
pub struct Projections {
    in_proj: Linear,
    q_bias: Param<Tensor<1>>,
    v_bias: Param<Tensor<1>>,
    pos_proj: Option<Linear>,
    pos_q_proj: Option<Linear>,
}

impl Attend for Projections {
    fn new(config: &DebertaConfig, builder: &Builder) -> Self {
        let size = config.hidden_size.get();
        let met = |kind| config.relative_attention && config.has(kind);
        Self {
            in_proj: Linear::without_bias(size, 3 * size, builder),
            q_bias: builder.bias(size),
            v_bias: builder.bias(size),
            pos_proj: met("c2p").then(|| Linear::without_bias(size, size, builder)),
            pos_q_proj: met("p2c").then(|| Linear::new(size, size, builder)),
        }
    }

    fn queries_keys_values(&self, x: Tensor<2>, heads: usize, mode: &Mode) -> [Tensor<2>; 3] {
        let [q_bias, v_bias] = [&self.q_bias, &self.v_bias].map(Param::val);
        let [size] = q_bias.dims();
        let head_dim = size / heads;
        let biases = [q_bias.clone(), q_bias.zeros_like(), v_bias].map(|bias| bias.reshape([heads, head_dim]));
        let bias = Tensor::cat(biases.to_vec(), 1).reshape([3 * size]);
        let together = self.in_proj.forward_with(x, Some(bias), mode);
        ops::columns(together, heads, [head_dim; 3], mode)
    }

    fn distances(&self, table: Tensor<2>, _: &DebertaConfig, mode: &Mode) -> [Option<Tensor<2>>; 2] {
        [&self.pos_proj, &self.pos_q_proj].map(|proj| proj.as_ref().map(|proj| proj.forward(table.clone(), mode)))
    }

    fn terms(config: &DebertaConfig) -> usize {
        1 + config.kinds().len()
    }
}

/// The second version's, which may serve content and distances alike.
#[derive(Module, Debug)]
pub struct ProjectionsV2 {
    query_proj: Linear,
    key_proj: Linear,
    value_proj: Linear,
    pos_key_proj: Option<Linear>,
    pos_query_proj: Option<Linear>,
}

impl Attend for ProjectionsV2 {
    fn new(config: &DebertaConfig, builder: &Builder) -> Self {
        let linear = || Linear::new(config.hidden_size.get(), config.hidden_size.get(), builder);
        let own = |kind| config.relative_attention && !config.share_att_key && config.has(kind);
        Self {
            query_proj: linear(),
            key_proj: linear(),
            value_proj: linear(),
            pos_key_proj: own("c2p").then(linear),
            pos_query_proj: own("p2c").then(linear),
        }
    }

    fn queries_keys_values(&self, x: Tensor<2>, _: usize, mode: &Mode) -> [Tensor<2>; 3] {
        projections([&self.query_proj, &self.key_proj, &self.value_proj], x, mode)
    }

    fn distances(&self, table: Tensor<2>, config: &DebertaConfig, mode: &Mode) -> [Option<Tensor<2>>; 2] {
        let shared = |own: &Option<Linear>, shared: &Linear, kind| {
            let proj = own.as_ref().or(config.has(kind).then_some(shared));
            proj.map(|proj| proj.forward(table.clone(), mode))
        };
        [shared(&self.pos_key_proj, &self.key_proj, "c2p"), shared(&self.pos_query_proj, &self.query_proj, "p2c")]
    }

    fn terms(config: &DebertaConfig) -> usize {
        1 + ["c2p", "p2c"].into_iter().filter(|kind| config.has(kind)).count()
    }
}
