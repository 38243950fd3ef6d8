//! Casts from and to types of 8 or fewer bits.

use optimium_graph::ops::{NarrowCast, PowerRounding};
use optimium_kernels::elementwise::{self as kernels, NarrowKind, NarrowRounding};
use optimium_tensor::{ElementType, Result};

use super::view::{NodeView, unsupported_type};
use crate::layer::{Layer, Step};

/// A cast from a narrow type to F32.
pub(super) fn widen(view: &NodeView) -> Result<Layer> {
    let kind = narrow_kind(view.input_type(0)?)?;
    if view.output_type(0)? != ElementType::F32 {
        return Err(unsupported_type(view.output_type(0)?));
    }
    Ok(Layer::new("cast", move |b| {
        let (x, y) = (b.input(0)?.operand, b.output(0)?.operand);
        Ok(Step::parallel(move |memory, part| {
            kernels::widen(kind, memory.read(x), memory.write(y), part);
            Ok(())
        }))
    }))
}

/// A cast from F32 to a narrow type.
pub(super) fn narrow(view: &NodeView, op: &NarrowCast) -> Result<Layer> {
    let kind = narrow_kind(op.to)?;
    if view.input_type(0)?.storage() != ElementType::F32 {
        return Err(unsupported_type(view.input_type(0)?));
    }
    let power = match op.rounding {
        PowerRounding::Up => kernels::PowerRounding::Up,
        PowerRounding::Down => kernels::PowerRounding::Down,
        PowerRounding::Nearest => kernels::PowerRounding::Nearest,
    };
    let rounding = NarrowRounding { saturate: op.saturate, power };
    Ok(Layer::new("cast", move |b| {
        let (x, y) = (b.input(0)?.operand, b.output(0)?.operand);
        Ok(Step::parallel(move |memory, part| {
            kernels::narrow(kind, rounding, memory.read(x), memory.write(y), part);
            Ok(())
        }))
    }))
}

fn narrow_kind(element_type: ElementType) -> Result<NarrowKind> {
    Ok(match element_type {
        ElementType::F8E4M3FN => NarrowKind::E4M3Fn,
        ElementType::F8E4M3FNUZ => NarrowKind::E4M3Fnuz,
        ElementType::F8E5M2 => NarrowKind::E5M2,
        ElementType::F8E5M2FNUZ => NarrowKind::E5M2Fnuz,
        ElementType::F8E8M0 => NarrowKind::E8M0,
        ElementType::F4E2M1 => NarrowKind::E2M1,
        ElementType::I4 => NarrowKind::I4,
        ElementType::U4 => NarrowKind::U4,
        ElementType::I2 => NarrowKind::I2,
        ElementType::U2 => NarrowKind::U2,
        other => return Err(unsupported_type(other)),
    })
}
