//! How a log names its operations and segments.

use crate::ids::LogPosition;
use crate::store::disk::{FileKind, FileName, OpId};

/// The number of the next operation.
pub(super) fn next_op(next: &mut u64) -> OpId {
    let op = OpId(*next);
    *next += 1;
    op
}

/// The segment that begins there.
pub(super) fn segment_name(position: LogPosition) -> FileName {
    FileName {
        kind: FileKind::Log,
        position,
    }
}
