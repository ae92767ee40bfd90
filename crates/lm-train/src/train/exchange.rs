//! How the gradients of a step come to all processes: they travel in buckets while the backward pass goes on, as with
//! Python's `DistributedDataParallel`, and are summed in the order of ranks; on NVIDIA GPUs in NCCL's.
//!
//! All ranks send the same buckets in the same order in every step, whatever has become of their own part of it: a rank that
//! was stopped or failed sends what it has, and all hear afterwards that the step does not count.

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use burn::tensor::{DType, Device, Tensor};
use lm_models::AutoModel;
use lm_models::ops::Watching;
use lm_models::parameters::ParameterInfo;
use serde::{Deserialize, Serialize};

use crate::dist::World;
use crate::optim::{GradientSum, add_to};

/// In what order the gradients of the parameters travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Those that are whole before the end of the backward pass, in the order in which they were.
    early: Vec<usize>,
    /// All others.
    rest: Vec<usize>,
    is_known: bool,
}

/// What a rank saw come, for all ranks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Came {
    /// Which parameters have a gradient on this rank.
    pub present: Vec<bool>,
    /// Those that seemed whole before the end, until the route is known.
    order: Vec<usize>,
    /// Those of which more came after that.
    more: Vec<usize>,
    /// Those of which more came when their sum was on its way.
    late: Vec<usize>,
}

impl Route {
    /// That of the first step, where nothing is known: all at the end.
    pub fn new(parameters: &[ParameterInfo]) -> Self {
        let rest = (0..parameters.len()).filter(|&index| parameters[index].trainable).collect();
        Self { early: Vec::new(), rest, is_known: false }
    }

    /// Draws the consequences of a step, on all ranks the same.
    pub fn learn(&mut self, came: &[Came]) {
        if !self.is_known
            && let Some(first) = came.iter().find(|of_rank| !of_rank.order.is_empty())
        {
            let early: BTreeSet<usize> = first.order.iter().copied().collect();
            self.early.clone_from(&first.order);
            self.rest.retain(|index| !early.contains(index));
            self.is_known = true;
        }
        let more: BTreeSet<usize> = came.iter().flat_map(|of_rank| &of_rank.more).copied().collect();
        if self.is_known && !more.is_empty() {
            let (late, early) = self.early.iter().partition(|index| more.contains(index));
            self.early = early;
            self.rest.extend::<Vec<usize>>(late);
        }
    }
}

/// What becomes of a process's own gradients.
enum Message {
    /// Those of all batches but the last.
    Before(GradientSum),
    /// A part of one of the last batch, which may be all of it.
    Ready(usize, Box<Tensor<1>>),
    /// Those that are left when the pass is over.
    Rest(GradientSum),
}

/// Where a process's own gradients go.
pub struct Outgoing<'a> {
    route: &'a Route,
    messages: Sender<Message>,
}

impl Outgoing<'_> {
    /// Takes the gradients of all batches but the last, and from now on those of the last as they come.
    pub fn last_batch(&self, model: &AutoModel, before: GradientSum) -> Watching {
        self.send(Message::Before(before));
        let messages = self.messages.clone();
        let wanted = |index| !self.route.is_known || self.route.early.contains(&index);
        let ready = move |index, gradient| {
            // Who would receive it has failed, which the process hears of from there.
            let _ = messages.send(Message::Ready(index, Box::new(gradient)));
        };
        model.watch(wanted, Box::new(ready))
    }

    /// Takes those that are left.
    pub fn rest(&self, rest: GradientSum) {
        self.send(Message::Rest(rest));
    }

    fn send(&self, message: Message) {
        // As above.
        let _ = self.messages.send(message);
    }
}

/// The gradients of all processes.
pub struct Exchanged {
    sums: Vec<Option<Tensor<1>>>,
    /// What came of a parameter when its sum was on its way.
    late: Vec<Option<Tensor<1>>>,
    /// What this rank saw come.
    pub came: Came,
}

/// What carries the gradients of a run.
pub struct Carrier<'a> {
    /// The processes.
    pub world: &'a World,
    /// Those of the model, in visiting order.
    pub parameters: &'a [ParameterInfo],
    /// About how many bytes travel at a time (`--ddp_bucket_cap_mb`).
    pub bucket: usize,
    /// Where the sums are wanted.
    pub device: &'a Device,
}

impl Carrier<'_> {
    /// Carries what `work` gives away, while it works.
    pub fn carry<R>(&self, route: &Route, work: impl FnOnce(&Outgoing) -> R) -> (R, Exchanged) {
        let (messages, inbox) = channel();
        thread::scope(|scope| {
            let exchanged = scope.spawn(|| self.exchange(route, inbox));
            let outgoing = Outgoing { route, messages };
            let done = work(&outgoing);
            drop(outgoing);
            (done, exchanged.join().unwrap_or_else(|panic| resume_unwind(panic)))
        })
    }

    fn exchange(&self, route: &Route, inbox: Receiver<Message>) -> Exchanged {
        let (mut own, mut travelling) = (Own::new(self.parameters.len()), Vec::new());
        let mut early = self.buckets(&route.early).into_iter().peekable();
        for message in inbox {
            own.take(message, route);
            while let Some(members) = early.next_if(|members| members.iter().all(|&index| own.gradients[index].seen)) {
                travelling.push(self.send(members, &mut own));
            }
        }
        for members in early.chain(self.buckets(&route.rest)) {
            travelling.push(self.send(members, &mut own));
        }
        self.world.finish_sums();
        let mut sums = vec![None; self.parameters.len()];
        for (members, flat) in travelling {
            members.into_iter().zip(flat.split()).for_each(|(index, sum)| sums[index] = Some(sum));
        }
        let late: Vec<_> = own.gradients.into_iter().map(|of| of.late).collect();
        own.came.late = (0..late.len()).filter(|&index| late[index].is_some()).collect();
        Exchanged { sums, late, came: own.came }
    }

    fn send(&self, members: Vec<usize>, own: &mut Own) -> (Vec<usize>, Summed) {
        let gradients = members.iter().map(|&index| (own.send(index), self.parameters[index].len()));
        let sum = self.sum(gradients);
        (members, sum)
    }

    /// The gradients that move the model, when all know what came on each rank: the sums of those that are present anywhere.
    pub fn sums(&self, exchanged: Exchanged, came: &[Came]) -> GradientSum {
        let Exchanged { mut sums, mut late, .. } = exchanged;
        let of_any: BTreeSet<usize> = came.iter().flat_map(|of_rank| &of_rank.late).copied().collect();
        for index in of_any {
            let more = self.sum([(late[index].take(), self.parameters[index].len())].into_iter());
            self.world.finish_sums();
            add_to(&mut sums[index], more.split().pop());
        }
        for (index, sum) in sums.iter_mut().enumerate() {
            if !came.iter().any(|of_rank| of_rank.present.get(index) == Some(&true)) {
                *sum = None;
            }
        }
        GradientSum::from_inner(sums)
    }

    /// Parameters in groups of about [`Self::bucket`] bytes.
    fn buckets(&self, indices: &[usize]) -> Vec<Vec<usize>> {
        let (mut buckets, mut bytes) = (Vec::<Vec<usize>>::new(), self.bucket);
        for &index in indices {
            if bytes >= self.bucket {
                buckets.push(Vec::new());
                bytes = 0;
            }
            if let Some(members) = buckets.last_mut() {
                members.push(index);
            }
            bytes += size_of::<f32>() * self.parameters[index].len();
        }
        buckets
    }

    /// Gradients, which may be none, of these lengths, summed over the ranks: on the device where that is possible.
    fn sum(&self, own: impl Iterator<Item = (Option<Tensor<1>>, usize)>) -> Summed {
        let mut lengths = Vec::new();
        if self.world.sums_tensors(self.device) {
            let parts = own.map(|(gradient, length)| {
                lengths.push(length);
                let zeros = || Tensor::zeros([length], (self.device, DType::F32));
                gradient.map_or_else(zeros, |own| own.cast(DType::F32))
            });
            let flat = Tensor::cat(parts.collect(), 0);
            return Summed { lengths, flat: Flat::There(self.world.sum_tensor(flat)) };
        }
        let mut values = Vec::new();
        for (gradient, length) in own {
            match gradient {
                Some(gradient) => append(&mut values, gradient),
                // Changes no sum, not even the sign of a zero.
                None => values.resize(values.len() + length, -0.0),
            }
            lengths.push(length);
        }
        self.world.sum(&mut values);
        Summed { lengths, flat: Flat::Here(values, self.device.clone()) }
    }
}

/// The sum of a bucket.
struct Summed {
    lengths: Vec<usize>,
    flat: Flat,
}

enum Flat {
    Here(Vec<f32>, Device),
    /// Not to be looked at before [`World::finish_sums`].
    There(Tensor<1>),
}

impl Summed {
    fn split(self) -> Vec<Tensor<1>> {
        let mut end = 0;
        let ranges = self.lengths.into_iter().map(|length| {
            end += length;
            end - length..end
        });
        match self.flat {
            Flat::Here(values, device) => ranges.map(|range| Tensor::from_data(&values[range], &device)).collect(),
            Flat::There(flat) => ranges.map(|range| flat.clone().slice([range])).collect(),
        }
    }
}

/// A process's own gradients.
struct Own {
    /// By parameter.
    gradients: Vec<OfParameter>,
    came: Came,
}

/// The gradient of one parameter.
#[derive(Clone, Default)]
struct OfParameter {
    /// Of all batches but the last.
    before: Option<Tensor<1>>,
    /// Of the last batch, as far as it has come.
    last: Option<Tensor<1>>,
    /// What came after it was sent.
    late: Option<Tensor<1>>,
    /// Whether it came in the middle of the pass.
    seen: bool,
    sent: bool,
}

impl Own {
    fn new(len: usize) -> Self {
        let came = Came { present: vec![false; len], ..Came::default() };
        Self { gradients: vec![OfParameter::default(); len], came }
    }

    fn take(&mut self, message: Message, route: &Route) {
        match message {
            Message::Before(sum) => sum.into_inner().into_iter().enumerate().for_each(|(index, gradient)| {
                self.came.present[index] |= gradient.is_some();
                self.gradients[index].before = gradient;
            }),
            Message::Ready(index, gradient) => {
                if !route.is_known && !self.gradients[index].seen {
                    self.came.order.push(index);
                }
                self.add(index, *gradient);
                self.gradients[index].seen = true;
            }
            Message::Rest(sum) => sum.into_inner().into_iter().enumerate().for_each(|(index, gradient)| {
                gradient.into_iter().for_each(|gradient| self.add(index, gradient));
            }),
        }
    }

    fn add(&mut self, index: usize, gradient: Tensor<1>) {
        self.came.present[index] = true;
        if self.gradients[index].seen {
            self.came.more.push(index);
        }
        let of = &mut self.gradients[index];
        add_to(if of.sent { &mut of.late } else { &mut of.last }, Some(gradient));
    }

    /// Of all batches.
    fn send(&mut self, index: usize) -> Option<Tensor<1>> {
        let of = &mut self.gradients[index];
        of.sent = true;
        let mut sum = of.before.take();
        add_to(&mut sum, of.last.take());
        sum
    }
}

/// Appends a tensor's values.
fn append(values: &mut Vec<f32>, tensor: Tensor<1>) {
    let data = tensor.into_data();
    match data.as_slice::<f32>() {
        Ok(own) => values.extend_from_slice(own),
        Err(_) => values.extend(data.iter::<f32>()),
    }
}

#[cfg(test)]
mod tests {
    use lm_models::parameters::{Initial, Kind};

    use super::*;

    const LENGTHS: [usize; 4] = [3, 2, 4, 1];

    fn parameters() -> Vec<ParameterInfo> {
        let info = |(index, len): (usize, usize)| ParameterInfo {
            name: index.to_string(),
            shape: vec![len],
            kind: Kind::Weight,
            decays: true,
            initial: Initial::Zeros,
            layer: None,
            trainable: index != 3,
        };
        LENGTHS.into_iter().enumerate().map(info).collect()
    }

    fn gradient(index: usize, value: f32) -> Tensor<1> {
        Tensor::full([LENGTHS[index]], value, &Device::flex())
    }

    fn sum(values: [Option<f32>; 4]) -> GradientSum {
        let gradients = values.into_iter().enumerate();
        GradientSum::from_inner(gradients.map(|(index, value)| Some(gradient(index, value?))).collect())
    }

    /// The first value of each sum, and what the rank saw, of what a step sends in buckets of so many bytes.
    fn step(route: &mut Route, bucket: usize, messages: Vec<Message>) -> ([Option<f32>; 4], Came) {
        let (world, parameters, device) = (World::alone("node".into()), parameters(), Device::flex());
        let carrier = Carrier { world: &world, parameters: &parameters, bucket, device: &device };
        let ((), exchanged) =
            carrier.carry(route, |outgoing| messages.into_iter().for_each(|message| outgoing.send(message)));
        let came = vec![exchanged.came.clone()];
        route.learn(&came);
        let sums = carrier.sums(exchanged, &came).into_inner();
        let mut first = [None; 4];
        for (index, sum) in sums.into_iter().enumerate() {
            first[index] = sum.map(|sum| {
                let values: Vec<f32> = sum.into_data().iter().collect();
                assert_eq!(values, vec![values[0]; LENGTHS[index]]);
                values[0]
            });
        }
        (first, came.into_iter().next().expect("one rank"))
    }

    #[test]
    fn gradients_leave_in_the_order_in_which_they_come() {
        let ready = |index, value| Message::Ready(index, Box::new(gradient(index, value)));
        for bucket in [1, 13, 1 << 20] {
            let mut route = Route::new(&parameters());
            assert_eq!((&route.early[..], &route.rest[..]), (&[][..], &[0, 1, 2][..]));
            // Of parameter 0 a part is left to the end, as of tied embeddings that Burn's own operations take too.
            let first = || {
                vec![
                    Message::Before(sum([Some(8.0), Some(8.0), None, None])),
                    ready(2, 1.0),
                    ready(0, 1.0),
                    ready(1, 1.0),
                    Message::Rest(sum([Some(4.0), None, None, None])),
                ]
            };
            let (sums, came) = step(&mut route, bucket, first());
            assert_eq!(sums, [Some(13.0), Some(9.0), Some(1.0), None]);
            assert_eq!((&came.order[..], &came.more[..], &came.late[..]), (&[2, 0, 1][..], &[0][..], &[][..]));
            assert_eq!((&route.early[..], &route.rest[..]), (&[2, 1][..], &[0][..]));
            // As it is known now; 1 comes first, and waits for 2 where they are in one bucket.
            let known = vec![ready(1, 1.0), ready(2, 2.0), Message::Rest(sum([Some(3.0), None, None, None]))];
            let (sums, came) = step(&mut route, bucket, known);
            assert_eq!(sums, [Some(3.0), Some(1.0), Some(2.0), None]);
            assert_eq!(came, Came { present: vec![true, true, true, false], ..Came::default() });
            // More of 2 than ever came before: it is not lost, and the route changes.
            let (sums, came) =
                step(&mut route, bucket, vec![ready(2, 2.0), ready(1, 1.0), ready(2, 4.0), ready(1, 0.5)]);
            assert_eq!(sums, [None, Some(1.5), Some(6.0), None]);
            assert_eq!(came.more, [2, 1]);
            assert_eq!(came.late, [1, 2]);
            assert_eq!((&route.early[..], &route.rest[..]), (&[][..], &[0, 2, 1][..]));
            // A rank that was stopped, or has nothing to predict.
            assert_eq!(step(&mut route, bucket, Vec::new()).0, [None; 4]);
        }
    }

    #[test]
    fn all_ranks_take_the_route_of_the_first_that_knows_one() {
        let of =
            |order: &[usize], more: &[usize]| Came { order: order.to_vec(), more: more.to_vec(), ..Came::default() };
        let mut route = Route::new(&parameters());
        route.learn(&[of(&[], &[]), of(&[], &[])]);
        assert_eq!(route, Route::new(&parameters()));
        route.learn(&[of(&[], &[]), of(&[2, 1], &[]), of(&[1, 2, 0], &[1])]);
        assert_eq!((&route.early[..], &route.rest[..]), (&[2][..], &[0, 1][..]));
        // From then on it only loses.
        route.learn(&[of(&[0], &[]), of(&[], &[2])]);
        assert_eq!((&route.early[..], &route.rest[..]), (&[][..], &[0, 1, 2][..]));
    }
}
