//! What is said about an item: approve, reject, or undecided with a reason.
//!
//! `approve` exists only on a completed, checked prediction. Everything else that can happen to an
//! item has a [`Reason`] here, so that no edge has to invent one.

use serde::Serialize;

/// The three answers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Judged, and good.
    Approve,
    /// Judged, and flawed.
    Reject,
    /// Not judged, or not clearly; never approved.
    Undecided,
}

/// Why a verdict says what it says. The first block is for judged items, the second for items that
/// could not be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Approved: the score of the approved label is high enough.
    Ok,
    /// Rejected: another label's score is high enough.
    Defect,
    /// Neither score is high enough.
    LowConfidence,
    /// Reserved: the input is unlike what the model was trained on.
    OutOfDistribution,
    /// Reserved: the image is too dark, too blurred or otherwise unfit.
    ImageQuality,
    /// Views of one item are missing, extra, identical, or not all judged.
    Views,

    /// The bytes are no complete image of a supported format.
    ImageUnreadable,
    /// The image has more pixels or bytes than allowed.
    ImageTooLarge,
    /// The model answered NaN or infinity.
    OutputInvalid,
    /// Refused: the queue is longer than the limit allows.
    Overloaded,
    /// The limit, or the caller's own deadline, passed.
    Deadline,
    /// The version is still loading, or failed to.
    NotReady,
    /// The run itself failed.
    InferenceFailed,
    /// Reserved: the record could not be written.
    AuditUnavailable,
    /// The server is stopping.
    ShuttingDown,
    /// The request was not understood; no image of it was looked at.
    RequestInvalid,
}

impl Reason {
    /// Every reason, in the order of the documentation.
    pub const ALL: [Self; 16] = [
        Self::Ok,
        Self::Defect,
        Self::LowConfidence,
        Self::OutOfDistribution,
        Self::ImageQuality,
        Self::Views,
        Self::ImageUnreadable,
        Self::ImageTooLarge,
        Self::OutputInvalid,
        Self::Overloaded,
        Self::Deadline,
        Self::NotReady,
        Self::InferenceFailed,
        Self::AuditUnavailable,
        Self::ShuttingDown,
        Self::RequestInvalid,
    ];

    /// The word used on the wire and as a metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Defect => "defect",
            Self::LowConfidence => "low_confidence",
            Self::OutOfDistribution => "out_of_distribution",
            Self::ImageQuality => "image_quality",
            Self::Views => "views",
            Self::ImageUnreadable => "image_unreadable",
            Self::ImageTooLarge => "image_too_large",
            Self::OutputInvalid => "output_invalid",
            Self::Overloaded => "overloaded",
            Self::Deadline => "deadline",
            Self::NotReady => "not_ready",
            Self::InferenceFailed => "inference_failed",
            Self::AuditUnavailable => "audit_unavailable",
            Self::ShuttingDown => "shutting_down",
            Self::RequestInvalid => "request_invalid",
        }
    }
}

impl Decision {
    /// The word used on the wire and as a metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::Undecided => "undecided",
        }
    }
}

/// How grave a defect class is, as the package declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// May harm a patient.
    Critical,
    /// May spoil the product.
    Major,
    /// Cosmetic.
    Minor,
}

/// What a version has shown before it was allowed to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// Nothing but that it runs: no golden samples were shipped. No verdicts.
    None,
    /// It answered its golden samples correctly on this machine, through the real path.
    Golden,
}

impl Evidence {
    /// The word used on the wire and as a metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Golden => "golden",
        }
    }
}

/// One item's verdict, as it stands in the answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// Approve, reject or undecided.
    pub decision: Decision,
    /// Why.
    pub reason: Reason,
    /// The label the verdict speaks of: the approved one, or the defect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// How grave `class` is, where the package says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// The score that decided, 0..=1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
    /// The threshold that score was held against, 0..=1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f32>,
    /// One sentence for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Verdict {
    /// The verdict of an item that could not be judged.
    #[must_use]
    pub fn undecided(reason: Reason, detail: impl Into<Option<String>>) -> Self {
        Self {
            decision: Decision::Undecided,
            reason,
            class: None,
            severity: None,
            score: None,
            threshold: None,
            detail: detail.into(),
        }
    }
}
