//! What a model is, whatever its architecture: a way from a batch to logits, and parameters with names.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::ops::Deref;
use std::sync::Arc;

use burn::backend::autodiff::NodeId;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{DType, Device, Gradients, Tensor, TensorData};

use crate::cache::Causal;
use crate::inputs::{Mode, ModelInputs};
use crate::low_rank::{Attach, LowRank, Rank, name_in_pair};
use crate::ops::{self, Decoder, Ready, Watching};
use crate::parameters::{Builder, Layer, Made, ParameterInfo, Snapshot};
use crate::stages::Stages;

/// What an architecture is trained for, one binary each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Task {
    /// Masked language modelling: `run_mlm`.
    Mlm,
    /// Causal language modelling: `run_clm`.
    Clm,
    /// Permutation language modelling: `run_plm`.
    Plm,
}

impl Task {
    /// All three.
    pub const ALL: &[Self] = &[Self::Mlm, Self::Clm, Self::Plm];

    /// The program that trains it.
    pub fn binary(self) -> &'static str {
        match self {
            Self::Mlm => "run_mlm",
            Self::Clm => "run_clm",
            Self::Plm => "run_plm",
        }
    }

    /// "masked language" and so on, to stand before "model".
    pub fn noun(self) -> &'static str {
        match self {
            Self::Mlm => "masked language",
            Self::Clm => "causal language",
            Self::Plm => "permutation language",
        }
    }
}

/// What an architecture says of itself; all else follows from its being a module. A parameter's name is the path of field
/// names down to it.
pub(crate) trait Architecture: Module + Sync + 'static {
    /// Fields whose names differ from those in the files, `(field, name)`: `self` is no Rust field name, `LayerNorm` no
    /// conventional one. A name may be a path, or nothing where the files have no such part.
    const RENAMES: &'static [(&'static str, &'static str)] = &[];

    /// The way from a batch to the rows to decode. `mode` gives the random choices that all layers share; the others
    /// are made while the stages run.
    fn stages<'a>(&'a self, inputs: &'a ModelInputs, mode: &Mode) -> Stages<'a>;

    /// The projection to the vocabulary.
    fn decoder(&self) -> Decoder;

    /// The model as one that can continue a text, if it is.
    fn causal(&self) -> Option<&dyn Causal> {
        None
    }
}

/// A parameter while it is visited.
pub trait Parameter {
    /// Name, shape, kind.
    fn info(&self) -> &ParameterInfo;

    /// Its values, flattened, outside autodiff.
    fn value(&self) -> Tensor<1>;

    /// Its gradient, flattened; none where the loss does not depend on it.
    fn take_gradient(&self, gradients: &mut Gradients) -> Option<Tensor<1>>;

    /// Its node in autodiff's graphs, if our operations see it there.
    fn leaf(&self) -> Option<NodeId>;
}

/// Gives a parameter's new values from its present ones, flattened and outside autodiff.
type Update<'a> = &'a mut dyn FnMut(&ParameterInfo, Tensor<1>) -> Tensor<1>;

/// Gives a parameter's new values, in the type that they are to lie in, whatever it holds; none leaves it as it is.
type Fill<'a> = &'a mut dyn FnMut(&ParameterInfo) -> Option<TensorData>;

/// Gives the rank of the pair that a weight gets.
type Choose<'a> = &'a mut dyn FnMut(&ParameterInfo) -> Option<Rank>;

/// An `Architecture` with its type erased.
pub trait Model: Debug + Send + Sync {
    /// See `Architecture::stages`.
    fn stages<'a>(&'a self, inputs: &'a ModelInputs, mode: &Mode) -> Stages<'a>;

    /// See `Architecture::decoder`.
    fn decoder(&self) -> Decoder;

    /// See `Architecture::causal`.
    fn causal(&self) -> Option<&dyn Causal>;

    /// Shows every parameter, in the order of the module's fields.
    fn visit(&self, see: &mut dyn FnMut(&dyn Parameter));

    /// Replaces every parameter's values, in the same order.
    fn map(self: Box<Self>, update: Update) -> Box<dyn Model>;

    /// The same, where the present values do not matter: those never needed are not made.
    fn fill(self: Box<Self>, fill: Fill) -> Box<dyn Model>;

    /// Attaches low-rank pairs, without values yet, to the weights of these ranks.
    fn attach(self: Box<Self>, choose: Choose) -> Box<dyn Model>;

    /// Freezes all parameters but those that `trains` wants.
    fn freeze(self: Box<Self>, trains: &mut dyn FnMut(&ParameterInfo) -> bool) -> Box<dyn Model>;

    /// The model with its low-rank pairs added to their weights.
    fn merge(self: Box<Self>) -> Box<dyn Model>;

    /// The model without autodiff, for evaluation.
    fn valid(&self) -> Box<dyn Model>;

    /// The model on another device, a leaf of autodiff there.
    fn fork(self: Box<Self>, device: &Device) -> Box<dyn Model>;

    /// A copy; tensors are shared until one side changes.
    fn boxed(&self) -> Box<dyn Model>;
}

/// A model of any architecture.
#[derive(Debug)]
pub struct AutoModel(Box<dyn Model>);

impl Clone for AutoModel {
    fn clone(&self) -> Self {
        Self(self.0.boxed())
    }
}

impl Deref for AutoModel {
    type Target = dyn Model;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl AutoModel {
    /// A model whose parameters `builder` made.
    pub(crate) fn new(module: impl Architecture, builder: &Builder) -> Self {
        Self(Box::new(Erased { module, made: Arc::new(builder.made()) }))
    }

    /// The rows to decode, [predicted, dim], for [`Decoder::logits`] or [`crate::ops::cross_entropy`].
    pub fn forward(&self, inputs: &ModelInputs, mode: &Mode) -> Tensor<2> {
        self.stages(inputs, mode).forward(mode)
    }

    /// Names, shapes and kinds of all parameters, in visiting order.
    pub fn parameters(&self) -> Vec<ParameterInfo> {
        let mut parameters = Vec::new();
        self.visit(&mut |parameter| parameters.push(parameter.info().clone()));
        parameters
    }

    /// All parameters as they are now, in visiting order. Tensors are shared, not copied, until one side changes.
    pub fn snapshot(&self) -> Vec<Snapshot> {
        let mut taken = Vec::new();
        self.visit(&mut |parameter| {
            taken.push(Snapshot { info: parameter.info().clone(), tensor: parameter.value() });
        });
        taken
    }

    /// Names of the weights that lie in bfloat16.
    pub fn in_16_bits(&self) -> HashSet<String> {
        let mut names = HashSet::new();
        self.visit(&mut |parameter| {
            if parameter.value().dtype() == DType::BF16 {
                names.insert(parameter.info().name.clone());
            }
        });
        names
    }

    /// Replaces every parameter's values, flattened and outside autodiff.
    pub fn map(self, mut update: impl FnMut(&ParameterInfo, Tensor<1>) -> Tensor<1>) -> Self {
        Self(self.0.map(&mut update))
    }

    /// Gives every parameter its values. What it held before is not looked at, nor made if it was never needed.
    pub fn fill<E>(self, mut values: impl FnMut(&ParameterInfo) -> Result<TensorData, E>) -> Result<Self, E> {
        let mut failed = None;
        let filled = self.0.fill(&mut |info| match failed {
            Some(_) => None,
            None => values(info).map_err(|error| failed = Some(error)).ok(),
        });
        failed.map_or(Ok(Self(filled)), Err)
    }

    /// The same of only those parameters for which there is a value.
    pub fn fill_some(self, mut values: impl FnMut(&ParameterInfo) -> Option<TensorData>) -> Self {
        Self(self.0.fill(&mut values))
    }

    /// Attaches low-rank pairs, which have to be filled, to the weights for which `choose` gives a rank.
    pub(crate) fn attach(self, mut choose: impl FnMut(&ParameterInfo) -> Option<Rank>) -> Self {
        Self(self.0.attach(&mut choose))
    }

    /// Freezes all parameters but those that `trains` wants: they take no gradient.
    pub fn freeze(self, mut trains: impl FnMut(&ParameterInfo) -> bool) -> Self {
        Self(self.0.freeze(&mut trains))
    }

    /// The model with its low-rank pairs added to the weights that they adapt.
    pub fn merge(self) -> Self {
        Self(self.0.merge())
    }

    /// Gives away the gradients of parameters, by their places in the order of visits, in the middle of the next backward pass
    /// of this thread, whose forward pass must be watched too. What the pass leaves of them comes on top.
    pub fn watch(&self, wanted: impl Fn(usize) -> bool, ready: Ready) -> Watching {
        let (mut leaves, mut index) = (Vec::new(), 0);
        self.visit(&mut |parameter| {
            if parameter.info().trainable && wanted(index) {
                leaves.extend(parameter.leaf().map(|node| (node, index, parameter.info().len())));
            }
            index += 1;
        });
        ops::watch(leaves.into_iter(), ready)
    }

    /// The model without autodiff, for evaluation.
    pub fn valid(&self) -> Self {
        Self(self.0.valid())
    }

    /// The model on another device, a leaf of autodiff there.
    pub fn fork(self, device: &Device) -> Self {
        Self(self.0.fork(device))
    }
}

/// An architecture, and what was said of its parameters when they were made.
#[derive(Clone, Debug)]
struct Erased<M> {
    module: M,
    made: Arc<HashMap<ParamId, Made>>,
}

impl<M: Architecture> Erased<M> {
    fn path(&self) -> Path {
        Path { parts: Vec::new(), renames: M::RENAMES, made: Arc::clone(&self.made) }
    }

    fn with(self, change: impl FnOnce(M) -> M) -> Box<dyn Model> {
        Box::new(Self { module: change(self.module), made: self.made })
    }
}

impl<M: Architecture> Model for Erased<M> {
    fn stages<'a>(&'a self, inputs: &'a ModelInputs, mode: &Mode) -> Stages<'a> {
        self.module.stages(inputs, mode)
    }

    fn decoder(&self) -> Decoder {
        self.module.decoder()
    }

    fn causal(&self) -> Option<&dyn Causal> {
        self.module.causal()
    }

    fn visit(&self, see: &mut dyn FnMut(&dyn Parameter)) {
        self.module.visit(&mut Visitor { path: self.path(), see });
    }

    fn map(self: Box<Self>, update: Update) -> Box<dyn Model> {
        let path = self.path();
        self.with(|module| module.map(&mut Updater { path, update }))
    }

    fn fill(self: Box<Self>, fill: Fill) -> Box<dyn Model> {
        let path = self.path();
        self.with(|module| module.map(&mut Filler { path, fill }))
    }

    fn attach(self: Box<Self>, choose: Choose) -> Box<dyn Model> {
        let mut made = HashMap::clone(&self.made);
        let mut chooser = Chooser { path: self.path(), choose, made: &mut made, chosen: HashMap::new() };
        self.module.visit(&mut chooser);
        let pairs = Attach(chooser.chosen);
        Box::new(Self { module: self.module.apply_reparameterization(pairs), made: Arc::new(made) })
    }

    fn freeze(self: Box<Self>, trains: &mut dyn FnMut(&ParameterInfo) -> bool) -> Box<dyn Model> {
        let mut made = HashMap::clone(&self.made);
        let path = self.path();
        let mut freezer = Freezer { path, trains, made: &mut made };
        let module = self.module.map(&mut freezer);
        Box::new(Self { module, made: Arc::new(made) })
    }

    fn merge(self: Box<Self>) -> Box<dyn Model> {
        self.with(Module::materialize)
    }

    fn valid(&self) -> Box<dyn Model> {
        Box::new(Self { module: self.module.valid(), made: Arc::clone(&self.made) })
    }

    fn fork(self: Box<Self>, device: &Device) -> Box<dyn Model> {
        self.with(|module| module.fork(device))
    }

    fn boxed(&self) -> Box<dyn Model> {
        Box::new(self.clone())
    }
}

/// Follows the module tree and spells names.
struct Path {
    /// Names, each with the type of the module that has the field.
    parts: Vec<(String, Option<Layer>)>,
    renames: &'static [(&'static str, &'static str)],
    made: Arc<HashMap<ParamId, Made>>,
}

impl Path {
    fn enter(&mut self, name: &str, container_type: &str) {
        let theirs = self.renames.iter().find(|(ours, _)| *ours == name).map_or(name, |(_, theirs)| *theirs);
        let layer = if name == "weight" { layer_of(container_type) } else { None };
        self.parts.push((theirs.to_owned(), layer));
    }

    fn exit(&mut self) {
        self.parts.pop();
    }

    fn info<const D: usize>(&self, param: &Param<Tensor<D>>) -> ParameterInfo {
        let all: Vec<&str> = self.parts.iter().map(|(name, _)| name.as_str()).filter(|part| !part.is_empty()).collect();
        let Some(&Made { kind, decays, initial, trainable }) = self.made.get(&param.id) else {
            unreachable!("every parameter is made by the model's builder: {}", all.join("."))
        };
        let of_weight = |from_end: usize| self.parts.iter().rev().nth(from_end).and_then(|(_, layer)| *layer);
        let in_pair = name_in_pair(&all, of_weight(2));
        let layer = of_weight(0).filter(|_| D == 2);
        let name = in_pair.unwrap_or_else(|| all.join("."));
        // The shape alone: a value that was never needed is not made for this.
        ParameterInfo { name, shape: param.lazy_shape().to_vec(), kind, decays, initial, layer, trainable }
    }
}

/// The layer that a module of this type is to an adapter.
fn layer_of(container_type: &str) -> Option<Layer> {
    match container_type {
        "Struct:Linear" | "Struct:LmHead" => Some(Layer::Linear),
        "Struct:Conv1D" => Some(Layer::Conv1D),
        "Struct:Embedding" => Some(Layer::Embedding),
        _ => None,
    }
}

struct Visited<'a, const D: usize> {
    info: ParameterInfo,
    param: &'a Param<Tensor<D>>,
}

impl<const D: usize> Parameter for Visited<'_, D> {
    fn info(&self) -> &ParameterInfo {
        &self.info
    }

    fn value(&self) -> Tensor<1> {
        let tensor = self.param.val();
        let tensor = if tensor.is_autodiff() { tensor.inner() } else { tensor };
        tensor.flatten(0, D - 1)
    }

    fn take_gradient(&self, gradients: &mut Gradients) -> Option<Tensor<1>> {
        Some(self.param.val().grad_remove(gradients)?.flatten(0, D - 1))
    }

    fn leaf(&self) -> Option<NodeId> {
        ops::leaf(&self.param.val())
    }
}

struct Visitor<'a> {
    path: Path,
    see: &'a mut dyn FnMut(&dyn Parameter),
}

impl ModuleVisitor for Visitor<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        (self.see)(&Visited { info: self.path.info(param), param });
    }
}

/// Makes the pairs of the weights that are chosen.
struct Chooser<'a> {
    path: Path,
    choose: Choose<'a>,
    made: &'a mut HashMap<ParamId, Made>,
    chosen: HashMap<ParamId, LowRank>,
}

impl ModuleVisitor for Chooser<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let info = self.path.info(param);
        let Some(layer) = info.layer else { return };
        let Some(rank) = (self.choose)(&info) else { return };
        let (pair, made) = LowRank::new(&info, layer, rank, &param.lazy_device());
        self.made.extend(made);
        self.chosen.insert(param.id, pair);
    }
}

struct Freezer<'a> {
    path: Path,
    trains: &'a mut dyn FnMut(&ParameterInfo) -> bool,
    made: &'a mut HashMap<ParamId, Made>,
}

impl ModuleMapper for Freezer<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let trainable = (self.trains)(&self.path.info(&param));
        if let Some(made) = self.made.get_mut(&param.id) {
            made.trainable = trainable;
        }
        param.set_require_grad(trainable)
    }
}

struct Updater<'a> {
    path: Path,
    update: Update<'a>,
}

impl ModuleMapper for Updater<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let info = self.path.info(&param);
        let (id, tensor, mapper) = param.consume();
        let (autodiff, shape) = (tensor.is_autodiff(), tensor.dims());
        let tensor = if autodiff { tensor.inner() } else { tensor };
        let updated = (self.update)(&info, tensor.flatten(0, D - 1)).reshape(shape);
        let updated = if autodiff { Tensor::from_inner(updated).set_require_grad(info.trainable) } else { updated };
        Param::from_mapped_value(id, updated, mapper)
    }
}

struct Filler<'a> {
    path: Path,
    fill: Fill<'a>,
}

impl ModuleMapper for Filler<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let info = self.path.info(&param);
        let Some(values) = (self.fill)(&info) else { return param };
        let (device, trainable) = (param.lazy_device(), info.trainable);
        let dtype = values.dtype();
        let tensor = Tensor::from_data(values, (&device, dtype));
        Param::initialized(param.id, tensor.set_require_grad(device.is_autodiff() && trainable))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::ops::Compute;
    use crate::testing::{fixtures, inputs};

    /// The values of every gradient, of those that came in the middle of the pass first, with what came on top.
    fn gradients(model: &AutoModel, watched: bool) -> (Vec<Option<TensorData>>, Vec<usize>) {
        let (inputs, compute, came) = (inputs(), Compute::default(), Rc::default());
        let order = Rc::<RefCell<Vec<(usize, Tensor<1>)>>>::clone(&came);
        let ready = move |index, gradient| order.borrow_mut().push((index, gradient));
        let watching = watched.then(|| model.watch(|_| true, Box::new(ready)));
        let rows = model.forward(&inputs, &Mode::train(compute, 3, 5, None));
        let loss = ops::cross_entropy(rows, &model.decoder(), inputs.targets.clone(), 0.0, 0.25, compute);
        let (_, mut left) = loss.backward();
        drop(watching);
        let came = came.take();
        let (mut gradients, order) = (Vec::new(), came.iter().map(|(index, _)| *index).collect());
        model.visit(&mut |parameter| {
            let early =
                came.iter().filter(|(index, _)| *index == gradients.len()).map(|(_, gradient)| gradient.clone());
            let parts = early.chain(parameter.take_gradient(&mut left));
            gradients.push(parts.reduce(ops::accumulate).map(Tensor::into_data));
        });
        (gradients, order)
    }

    #[test]
    fn gradients_come_in_the_middle_of_the_pass_with_the_same_bits() {
        for (name, model) in fixtures() {
            let (whole, none) = gradients(&model, false);
            let (watched, order) = gradients(&model, true);
            assert!(none.is_empty());
            for (info, (whole, watched)) in model.parameters().iter().zip(whole.iter().zip(&watched)) {
                assert_eq!(whole, watched, "{name}: {}", info.name);
            }
            // What Burn's operations take directly is little.
            let present = whole.iter().flatten().count();
            assert!(order.len() * 2 > present, "{name}: {} of {present}", order.len());
            // The last layer's before the first's.
            let names: Vec<String> = model.parameters().into_iter().map(|info| info.name).collect();
            let place = |layer: &str| order.iter().position(|&index| names[index].contains(layer));
            if let (Some(first), Some(last)) = (place("layer.0."), place("layer.1.")) {
                assert!(last < first, "{name}");
            }
        }
    }
}
