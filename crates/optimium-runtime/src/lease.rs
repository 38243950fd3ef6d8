//! Who uses which memory now: running inferences hold their tensors against each other.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use optimium_tensor::{Access, Buffer, Error, ErrorKind, Result, Tensor};

/// The tensors of one running inference, whose memory is kept from others. Dropping it ends the use.
pub(crate) struct Lease {
    id: u64,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
    /// Each buffer once: the place of a tensor in it among inputs and outputs, and how it is used.
    held: Vec<(usize, Access)>,
}

/// A span of memory that an inference uses.
pub(crate) struct Use {
    lease: u64,
    addresses: Range<usize>,
    access: Access,
}

/// Everything in use. Buffers count their own users too; addresses also catch two buffers over the same
/// foreign memory, such as two views of one NumPy array.
pub(crate) static IN_USE: Mutex<Vec<Use>> = Mutex::new(Vec::new());

impl Lease {
    /// Takes `inputs` for reading and `outputs` for writing, whose [addresses](spans) are `spans`. String tensors, which cannot be
    /// written, need nothing.
    ///
    /// # Errors
    /// [`InvalidOperation`](ErrorKind::InvalidOperation) where another inference writes what this one uses,
    /// or uses what this one writes.
    pub(crate) fn take(
        inputs: Vec<Tensor>,
        outputs: Vec<Tensor>,
        spans: &[Option<Range<usize>>],
    ) -> Result<Lease> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let held = Vec::with_capacity(spans.len());
        if let Err(place) = register(id, spans, inputs.len()) {
            let tensor = inputs.get(place).unwrap_or_else(|| &outputs[place - inputs.len()]);
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("the memory of {tensor:?} is in use by a running inference; wait for it first"),
            ));
        }
        let mut lease = Lease { id, inputs, outputs, held };
        for place in 0..spans.len() {
            lease.hold(place)?;
        }
        Ok(lease)
    }

    /// Inputs and outputs.
    pub(crate) fn tensors(&self) -> (&[Tensor], &[Tensor]) {
        (&self.inputs, &self.outputs)
    }

    /// Ends the use, and gives inputs and outputs back.
    pub(crate) fn end(mut self) -> (Vec<Tensor>, Vec<Tensor>) {
        self.let_go();
        (std::mem::take(&mut self.inputs), std::mem::take(&mut self.outputs))
    }

    fn buffer(&self, place: usize) -> Option<&Arc<Buffer>> {
        let tensor = self.inputs.get(place).or_else(|| self.outputs.get(place - self.inputs.len()))?;
        tensor.span().map(|(buffer, _)| buffer)
    }

    fn hold(&mut self, place: usize) -> Result<()> {
        let access = if place < self.inputs.len() { Access::Read } else { Access::Write };
        let Some(buffer) = self.buffer(place) else { return Ok(()) };
        // Disjoint parts of one buffer may serve as several outputs; the addresses told them apart.
        let is_same = |other: usize| self.buffer(other).is_some_and(|other| Arc::ptr_eq(other, buffer));
        let Some(index) = self.held.iter().position(|&(other, _)| is_same(other)) else {
            buffer.acquire(access)?;
            self.held.push((place, access));
            return Ok(());
        };
        if self.held[index].1 == Access::Read && access == Access::Write {
            buffer.release(Access::Read);
            if let Err(error) = buffer.acquire(Access::Write) {
                self.held.swap_remove(index);
                return Err(error);
            }
            self.held[index].1 = Access::Write;
        }
        Ok(())
    }

    fn let_go(&mut self) {
        for (place, access) in std::mem::take(&mut self.held) {
            if let Some(buffer) = self.buffer(place) {
                buffer.release(access);
            }
        }
        IN_USE.lock().unwrap_or_else(PoisonError::into_inner).retain(|entry| entry.lease != self.id);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // One that has ended has no tensors any more; a model may have none either, and registers none then.
        if !self.inputs.is_empty() || !self.outputs.is_empty() {
            self.let_go();
        }
    }
}

/// Registers the spans, of which the first are those of so many inputs.
///
/// # Errors
/// The place of one that is in use in a way that excludes this one.
fn register(lease: u64, spans: &[Option<Range<usize>>], inputs: usize) -> Result<(), usize> {
    let mut in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    let others = in_use.len();
    for (place, addresses) in spans.iter().enumerate() {
        let Some(addresses) = addresses else { continue };
        let access = if place < inputs { Access::Read } else { Access::Write };
        let conflict = in_use[..others].iter().any(|other| {
            (access == Access::Write || other.access == Access::Write) && overlap(addresses, &other.addresses)
        });
        if conflict {
            in_use.truncate(others);
            return Err(place);
        }
        in_use.push(Use { lease, addresses: addresses.clone(), access });
    }
    Ok(())
}

/// The [`addresses`] of inputs and outputs.
pub(crate) fn spans(inputs: &[Tensor], outputs: &[Tensor]) -> Vec<Option<Range<usize>>> {
    inputs.iter().chain(outputs).map(addresses).collect()
}

/// The addresses from the first to the last byte of a tensor; none for strings and empty tensors.
pub(crate) fn addresses(tensor: &Tensor) -> Option<Range<usize>> {
    let (buffer, span) = tensor.span()?;
    let start = buffer.as_ptr().addr();
    (tensor.byte_len() > 0).then(|| start + span.start..start + span.end)
}

/// Whether two spans share a byte.
pub(crate) fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

#[cfg(test)]
mod tests {
    use optimium_tensor::ElementType;

    use super::*;

    fn tensor() -> Tensor {
        Tensor::zeros(ElementType::F32, &[4]).unwrap()
    }

    fn take(inputs: &[&Tensor], outputs: &[&Tensor]) -> Result<Lease> {
        let own =
            |tensors: &[&Tensor]| -> Vec<Tensor> { tensors.iter().map(|&tensor| tensor.clone()).collect() };
        let (inputs, outputs) = (own(inputs), own(outputs));
        let spans = spans(&inputs, &outputs);
        Lease::take(inputs, outputs, &spans)
    }

    #[test]
    fn writers_exclude_everyone_and_readers_only_writers() {
        let (x, y, z) = (tensor(), tensor(), tensor());
        let first = take(&[&x], &[&y]).unwrap();
        drop(take(&[&x], &[&z]).unwrap());
        for (inputs, outputs) in [(&x, &y), (&y, &z), (&z, &x)] {
            let error = take(&[inputs], &[outputs]).err().expect("a conflict");
            assert_eq!(error.kind(), ErrorKind::InvalidOperation);
        }
        let (inputs, outputs) = first.end();
        assert_eq!((inputs.len(), outputs.len()), (1, 1));
        drop(take(&[&y], &[&x]).unwrap());
        assert!(z.write::<f32>().is_ok());
    }

    #[test]
    fn buffers_that_serve_several_times_are_held_once() {
        let (x, y) = (tensor(), tensor());
        let half = |offset| {
            let (buffer, _) = y.buffer().unwrap();
            Tensor::from_buffer(ElementType::F32, &[2], buffer.clone(), offset).unwrap()
        };
        let lease = take(&[&x, &half(0), &x], &[&half(0), &half(8)]).unwrap();
        assert!(x.read::<f32>().is_ok() && x.write::<f32>().is_err());
        assert!(y.read::<f32>().is_err());
        drop(lease);
        assert!(x.write::<f32>().is_ok() && y.write::<f32>().is_ok());

        let guard = y.read::<f32>().unwrap();
        assert!(take(&[&x, &y], &[&y]).is_err(), "what is read elsewhere cannot be written");
        drop(guard);
        assert!(x.write::<f32>().is_ok() && y.write::<f32>().is_ok(), "nothing is left of what was refused");
    }

    #[test]
    fn two_buffers_over_the_same_memory_are_noticed() {
        let memory = Arc::new(Buffer::zeroed(64).unwrap());
        let view = |offset: usize| {
            let pointer = std::ptr::NonNull::new(memory.as_ptr().wrapping_add(offset)).unwrap();
            // SAFETY: the bytes lie within `memory`, which the view keeps alive.
            let buffer = unsafe { Buffer::foreign(pointer, 32, true, memory.clone()) };
            Tensor::from_buffer(ElementType::F32, &[8], Arc::new(buffer), 0).unwrap()
        };
        let held = take(&[], &[&view(0)]).unwrap();
        assert!(take(&[&view(16)], &[]).is_err());
        drop(take(&[&view(32)], &[]).unwrap());
        drop(held);
        drop(take(&[&view(16)], &[]).unwrap());
    }
}
