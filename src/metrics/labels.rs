//! The fixed small sets that labels come from.

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Decided; undecided verdicts included.
    Ok,
    /// The client's fault: no image, too large, wrong shape.
    Invalid,
    /// Refused for load.
    Shed,
    /// Its deadline passed.
    Expired,
    /// The caller went away.
    Cancelled,
    /// The model or the server failed.
    Failed,
}

impl Outcome {
    /// Every outcome.
    pub(super) const ALL: [Self; 6] =
        [Self::Ok, Self::Invalid, Self::Shed, Self::Expired, Self::Cancelled, Self::Failed];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Invalid => "invalid",
            Self::Shed => "shed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// A part of the way of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Reading the body.
    Read,
    /// Waiting for a lane.
    Queue,
    /// Bytes to resized pixels.
    Decode,
    /// The batch's run.
    Infer,
    /// Logits to verdict.
    Decide,
    /// Building the answer.
    Write,
}

impl Stage {
    pub(super) const ALL: [Self; 6] =
        [Self::Read, Self::Queue, Self::Decode, Self::Infer, Self::Decide, Self::Write];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Queue => "queue",
            Self::Decode => "decode",
            Self::Infer => "infer",
            Self::Decide => "decide",
            Self::Write => "write",
        }
    }
}

/// Why a run has no more rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// It has as many as it may have.
    Full,
    /// The next item's would be too many.
    Fits,
    /// Nothing else waits that could share it.
    Drained,
    /// An item of a failed run is tried alone.
    Isolated,
}

impl Closed {
    pub(super) const ALL: [Self; 4] = [Self::Full, Self::Fits, Self::Drained, Self::Isolated];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Fits => "fits",
            Self::Drained => "drained",
            Self::Isolated => "isolated",
        }
    }
}

/// Which of the two numbers of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// *Should*.
    Target,
    /// *Must*.
    Limit,
}
