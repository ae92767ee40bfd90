//! Gradients of parameters as they come, while the backward pass goes on: what Python's `DistributedDataParallel` has the
//! hooks of autograd for.
//!
//! Our operations count how often they take a parameter in the forward pass, and hand its gradient over when the backward
//! pass has been through all of them. Burn's own operations are not seen: what they add later stays among the gradients that
//! the backward pass leaves.

use std::cell::RefCell;
use std::collections::HashMap;
use std::marker::PhantomData;

use burn::backend::autodiff::NodeId;
use burn::tensor::Tensor;

thread_local! {
    /// The passes of this thread, while somebody watches.
    static WATCHED: RefCell<Option<Watched>> = const { RefCell::new(None) };
}

struct Watched {
    leaves: HashMap<NodeId, Leaf>,
    ready: Ready,
}

struct Leaf {
    index: usize,
    len: usize,
    /// Operations that have taken it and are not gone back through.
    uses: usize,
}

/// Takes the gradient of a leaf with this number, flattened.
pub type Ready = Box<dyn Fn(usize, Tensor<1>)>;

/// Watches the passes of this thread until it is dropped.
#[must_use]
pub struct Watching(PhantomData<*const ()>);

impl Drop for Watching {
    fn drop(&mut self) {
        WATCHED.take();
    }
}

/// Gives away the gradients of leaves of autodiff, each with its number and length, as they come; one may come in several
/// parts.
pub(crate) fn watch(leaves: impl Iterator<Item = (NodeId, usize, usize)>, ready: Ready) -> Watching {
    let leaves = leaves.map(|(node, index, len)| (node, Leaf { index, len, uses: 0 })).collect();
    WATCHED.set(Some(Watched { leaves, ready }));
    Watching(PhantomData)
}

/// An operation takes a leaf.
#[cfg(any(feature = "flex", feature = "tch"))]
pub(super) fn used(node: NodeId) {
    WATCHED.with_borrow_mut(|watched| {
        if let Some(leaf) = watched.as_mut().and_then(|watched| watched.leaves.get_mut(&node)) {
            leaf.uses += 1;
        }
    });
}

/// An operation that took a leaf has added to its gradient, which is `take`n out if it was the last.
#[cfg(any(feature = "flex", feature = "tch"))]
pub(super) fn done(node: NodeId, take: impl FnOnce(usize) -> Option<Tensor<1>>) {
    WATCHED.with_borrow_mut(|watched| {
        let Some(watched) = watched else { return };
        let Some(leaf) = watched.leaves.get_mut(&node) else { return };
        leaf.uses = leaf.uses.saturating_sub(1);
        if leaf.uses == 0
            && let Some(gradient) = take(leaf.len)
        {
            (watched.ready)(leaf.index, gradient);
        }
    });
}
