//! Where work is done, and what it costs there: on the cores, or on accelerators beside them.
//!
//! Pictures are decoded on cores in any case; where a version runs is its [`Placement`].

use std::{
    iter::Sum,
    ops::{Add, AddAssign},
    time::Duration,
};

/// Where a lane works. Every lane is a thread; that of an accelerator waits for it and takes no core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Site {
    /// On the core that its token stands for.
    Core,
    /// On the accelerator of this number.
    Device(u32),
}

/// Where the runs of a version may happen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Placement {
    /// On any core.
    #[default]
    Cores,
    /// On any of these accelerators; each must have lanes ([`super::Batcher::add_device`]).
    Devices(Vec<u32>),
}

/// Predicted time that an item takes of lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// To decode it; zero for what needs none.
    pub decode: Duration,
    /// Its share of a run.
    pub run: Duration,
}

/// Costs, by where they arise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Load {
    pub(super) cores: Duration,
    pub(super) devices: Duration,
}

impl Placement {
    /// Whether a lane there may run it.
    pub(super) fn includes(&self, site: Site) -> bool {
        match (self, site) {
            (Self::Cores, Site::Core) => true,
            (Self::Devices(all), Site::Device(it)) => all.contains(&it),
            (Self::Cores, Site::Device(_)) | (Self::Devices(_), Site::Core) => false,
        }
    }

    /// Whether the runs of both are run by the same lanes.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Cores, Self::Cores) => true,
            (Self::Devices(own), Self::Devices(other)) => own.iter().any(|it| other.contains(it)),
            (Self::Cores, Self::Devices(_)) | (Self::Devices(_), Self::Cores) => false,
        }
    }

    pub(super) fn load(&self, cost: Cost) -> Load {
        let Cost { decode, run } = cost;
        match self {
            Self::Cores => Load { cores: decode + run, devices: Duration::ZERO },
            Self::Devices(_) => Load { cores: decode, devices: run },
        }
    }

    /// Of a load, what lanes there have to do.
    pub(super) fn share(&self, load: Load) -> Duration {
        match self {
            Self::Cores => load.cores,
            Self::Devices(_) => load.devices,
        }
    }
}

impl Cost {
    /// From the first to the last.
    #[must_use]
    pub fn total(self) -> Duration {
        self.decode + self.run
    }
}

impl Load {
    pub(super) fn saturating_sub(self, other: Self) -> Self {
        Self {
            cores: self.cores.saturating_sub(other.cores),
            devices: self.devices.saturating_sub(other.devices),
        }
    }

    /// The lesser of each.
    pub(super) fn min(self, other: Self) -> Self {
        Self { cores: self.cores.min(other.cores), devices: self.devices.min(other.devices) }
    }
}

impl Add for Load {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { cores: self.cores + other.cores, devices: self.devices + other.devices }
    }
}

impl AddAssign for Load {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Load {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}
