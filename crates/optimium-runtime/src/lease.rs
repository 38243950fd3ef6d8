//! Who uses which memory now: running inferences hold their tensors against each other.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use optimium_tensor::{Access, Buffer, Error, ErrorKind, Result, Tensor};

/// The memory of one running inference. Dropping it ends the use.
pub(crate) struct Lease {
    id: u64,
    buffers: Vec<(Arc<Buffer>, Access)>,
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
    /// Takes `inputs` for reading and `outputs` for writing. String tensors, which cannot be written, need
    /// nothing.
    ///
    /// # Errors
    /// [`InvalidOperation`](ErrorKind::InvalidOperation) where another inference writes what this one uses,
    /// or uses what this one writes.
    pub(crate) fn take(inputs: &[Tensor], outputs: &[Tensor]) -> Result<Lease> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut lease = Lease { id, buffers: Vec::with_capacity(inputs.len() + outputs.len()) };
        let uses = || {
            let read = inputs.iter().map(|tensor| (tensor, Access::Read));
            read.chain(outputs.iter().map(|tensor| (tensor, Access::Write)))
        };
        register(id, uses())?;
        for (tensor, access) in uses() {
            let Some((buffer, _)) = tensor.span() else { continue };
            lease.hold(buffer, access)?;
        }
        Ok(lease)
    }

    fn hold(&mut self, buffer: &Arc<Buffer>, access: Access) -> Result<()> {
        // Disjoint parts of one buffer may serve as several outputs; the addresses told them apart.
        if let Some((_, held)) = self.buffers.iter_mut().find(|(other, _)| Arc::ptr_eq(other, buffer)) {
            if *held == Access::Read && access == Access::Write {
                buffer.release(Access::Read);
                if let Err(error) = buffer.acquire(Access::Write) {
                    self.buffers.retain(|(other, _)| !Arc::ptr_eq(other, buffer));
                    return Err(error);
                }
                *held = Access::Write;
            }
            return Ok(());
        }
        buffer.acquire(access)?;
        self.buffers.push((buffer.clone(), access));
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        for (buffer, access) in &self.buffers {
            buffer.release(*access);
        }
        IN_USE.lock().unwrap_or_else(PoisonError::into_inner).retain(|entry| entry.lease != self.id);
    }
}

fn register<'a>(lease: u64, uses: impl Iterator<Item = (&'a Tensor, Access)>) -> Result<()> {
    let mut in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    let others = in_use.len();
    for (tensor, access) in uses {
        let Some(addresses) = addresses(tensor) else { continue };
        let conflict = in_use[..others].iter().any(|other| {
            (access == Access::Write || other.access == Access::Write)
                && overlap(&addresses, &other.addresses)
        });
        if conflict {
            in_use.truncate(others);
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("the memory of {tensor:?} is in use by a running inference; wait for it first"),
            ));
        }
        in_use.push(Use { lease, addresses, access });
    }
    Ok(())
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
    use std::slice::from_ref;

    use optimium_tensor::ElementType;

    use super::*;

    fn tensor() -> Tensor {
        Tensor::zeros(ElementType::F32, &[4]).unwrap()
    }

    #[test]
    fn writers_exclude_everyone_and_readers_only_writers() {
        let (x, y, z) = (tensor(), tensor(), tensor());
        let first = Lease::take(from_ref(&x), from_ref(&y)).unwrap();
        drop(Lease::take(from_ref(&x), from_ref(&z)).unwrap());
        for (inputs, outputs) in [(&x, &y), (&y, &z), (&z, &x)] {
            let error = Lease::take(from_ref(inputs), from_ref(outputs)).err().expect("a conflict");
            assert_eq!(error.kind(), ErrorKind::InvalidOperation);
        }
        drop(first);
        drop(Lease::take(&[y], &[x]).unwrap());
        assert!(z.write::<f32>().is_ok());
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
        let held = Lease::take(&[], &[view(0)]).unwrap();
        assert!(Lease::take(&[view(16)], &[]).is_err());
        drop(Lease::take(&[view(32)], &[]).unwrap());
        drop(held);
        drop(Lease::take(&[view(16)], &[]).unwrap());
    }
}
