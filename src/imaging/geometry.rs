//! Where each pixel goes: the sizes and offsets of resize, crop and padding.
//!
//! All rounding is that of the libraries models are trained with; it is written down here because a
//! crop that is one pixel off is a difference nobody sees and every model feels.

use super::{
    error::ImageError,
    header::Limits,
    spec::{Crop, ResizeMode},
};

/// Columns and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) width: u32,
    pub(super) height: u32,
}

impl Size {
    pub(super) fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// The same picture with its columns for rows.
    pub(super) fn turned(self) -> Self {
        Self { width: self.height, height: self.width }
    }
}

/// How many times fewer columns and rows are decoded than are stored: 1, 2, 4 or 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reduction(u32);

impl Reduction {
    /// Every pixel.
    pub(super) const NONE: Self = Self(1);

    /// The largest that leaves a picture of size `stored` at least as large as `needed`, in the
    /// arithmetic of Pillow's `draft`.
    pub(super) fn down_to(needed: Size, stored: Size) -> Self {
        let times = (stored.width / needed.width).min(stored.height / needed.height);
        Self([8, 4, 2].into_iter().find(|it| times >= *it).unwrap_or(1))
    }

    /// What libjpeg makes of a picture of size `stored`: what is left over counts as a whole pixel.
    pub(super) fn of(self, stored: Size) -> Size {
        Size { width: stored.width.div_ceil(self.0), height: stored.height.div_ceil(self.0) }
    }

    pub(super) fn times(self) -> u32 {
        self.0
    }
}

/// The checked counterpart of `resize` and `crop` in the package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) mode: ResizeMode,
    /// Stretch and letterbox: the size. Shortest: both are the length of the shorter side.
    pub(super) size: Size,
    pub(super) crop: Crop,
}

/// What happens to one upright image: resize to `resized`, then copy the window of size `window`
/// at `from` to `to` in an output of size `output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) resized: Size,
    pub(super) from: (u32, u32),
    pub(super) to: (u32, u32),
    pub(super) window: Size,
    pub(super) output: Size,
}

impl Target {
    /// The size of what comes out, the same for every image.
    pub(super) fn output(self) -> Size {
        match self.crop {
            Crop::None => self.size,
            Crop::Centre([height, width]) => Size { width, height },
        }
    }

    /// Plans for an upright image of size `source`.
    pub(super) fn plan(self, source: Size, limits: Limits) -> Result<Plan, ImageError> {
        let resized = match self.mode {
            ResizeMode::Stretch => Some(self.size),
            ResizeMode::Shortest => shortest(source, self.size.width),
            ResizeMode::Letterbox => Some(fit(source, self.size)),
        };
        let too_thin = ImageError::TooElongated { width: source.width, height: source.height };
        let Some(resized) = resized else { return Err(too_thin) };
        // A picture one pixel wide may be 24 million high: widening it to 224 before shortening it
        // would take gigabytes. The outputs allowed are all below the default limit.
        let widened = Size { width: resized.width, height: source.height };
        let room = limits.max_pixels.max(Limits::default().max_pixels);
        if widened.pixels().max(resized.pixels()) > room {
            return Err(too_thin);
        }
        let output = self.output();
        let window = Size {
            width: resized.width.min(output.width),
            height: resized.height.min(output.height),
        };
        let (from, to) = if self.mode == ResizeMode::Letterbox {
            // Odd padding is smaller at the top left.
            ((0, 0), ((output.width - window.width) / 2, (output.height - window.height) / 2))
        } else {
            let x = half_to_even(resized.width - window.width);
            ((x, half_to_even(resized.height - window.height)), (0, 0))
        };
        Ok(Plan { resized, from, to, window, output })
    }
}

/// `torchvision.transforms.Resize(n)`: the shorter side becomes `side`, the longer one is rounded
/// down. `None` where it would not fit a number.
fn shortest(source: Size, side: u32) -> Option<Size> {
    let (short, long) = (source.width.min(source.height), source.width.max(source.height));
    let scaled = u64::from(side) * u64::from(long) / u64::from(short);
    let scaled = u32::try_from(scaled).ok()?;
    Some(if source.width <= source.height {
        Size { width: side, height: scaled }
    } else {
        Size { width: scaled, height: side }
    })
}

/// The largest size of the same proportions within `bounds`, each side rounded to the nearest and
/// half to even, as letterboxing is done for YOLO models.
fn fit(source: Size, bounds: Size) -> Size {
    let by_width = f64::from(bounds.width) / f64::from(source.width);
    let by_height = f64::from(bounds.height) / f64::from(source.height);
    let ratio = by_width.min(by_height);
    let scale = |side: u32, bound: u32| {
        let scaled = (f64::from(side) * ratio).round_ties_even().clamp(1.0, f64::from(bound));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and a u32"
        )]
        let scaled = scaled as u32;
        scaled
    };
    Size { width: scale(source.width, bounds.width), height: scale(source.height, bounds.height) }
}

/// Python's `round(n / 2)`, with which torchvision places a centre crop.
fn half_to_even(n: u32) -> u32 {
    let half = n / 2;
    half + (n % 2) * (half % 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(mode: ResizeMode, (width, height): (u32, u32), crop: Crop) -> Target {
        Target { mode, size: Size { width, height }, crop }
    }

    #[test]
    fn sizes_and_offsets_are_those_of_the_training_libraries() {
        let stretch = target(ResizeMode::Stretch, (224, 200), Crop::None);
        let cropped = target(ResizeMode::Stretch, (231, 229), Crop::Centre([224, 224]));
        let shortest = target(ResizeMode::Shortest, (256, 256), Crop::Centre([224, 224]));
        let letterbox = target(ResizeMode::Letterbox, (640, 640), Crop::None);
        // (target, source, resized, from, to, window)
        let cases = [
            (stretch, (1024, 768), (224, 200), (0, 0), (0, 0), (224, 200)),
            // round(3.5) = 4, round(2.5) = 2 in Python.
            (cropped, (10, 10), (231, 229), (4, 2), (0, 0), (224, 224)),
            (shortest, (500, 375), (341, 256), (58, 16), (0, 0), (224, 224)),
            (shortest, (375, 500), (256, 341), (16, 58), (0, 0), (224, 224)),
            (shortest, (100, 100), (256, 256), (16, 16), (0, 0), (224, 224)),
            (letterbox, (1280, 721), (640, 360), (0, 0), (0, 140), (640, 360)),
            (letterbox, (720, 1281), (360, 640), (0, 0), (140, 0), (360, 640)),
            (letterbox, (5000, 1), (640, 1), (0, 0), (0, 319), (640, 1)),
        ];
        for (target, (width, height), resized, from, to, window) in cases {
            let plan = target.plan(Size { width, height }, Limits::default()).unwrap();
            let sides = |it: Size| (it.width, it.height);
            assert_eq!(
                (sides(plan.resized), plan.from, plan.to, sides(plan.window)),
                (resized, from, to, window),
                "{target:?} {width}x{height}"
            );
        }
    }

    #[test]
    fn a_picture_is_reduced_as_pillow_drafts_it() {
        // (stored, needed, times, decoded); Pillow 13: Image.draft(None, needed).
        let cases = [
            ((1024, 1024), (224, 224), 4, (256, 256)),
            ((2048, 2048), (224, 224), 8, (256, 256)),
            ((512, 1024), (192, 384), 2, (256, 512)),
            ((1023, 517), (256, 256), 2, (512, 259)),
            ((1023, 511), (256, 256), 1, (1023, 511)),
            ((1023, 517), (511, 258), 2, (512, 259)),
            ((1023, 517), (512, 259), 1, (1023, 517)),
            ((8193, 4100), (16, 16), 8, (1025, 513)),
            ((5000, 1), (640, 1), 1, (5000, 1)),
            ((100, 100), (224, 224), 1, (100, 100)),
        ];
        for ((width, height), needed, times, decoded) in cases {
            let needed = Size { width: needed.0, height: needed.1 };
            let stored = Size { width, height };
            let reduction = Reduction::down_to(needed, stored);
            let found = reduction.of(stored);
            assert_eq!((reduction.times(), (found.width, found.height)), (times, decoded));
        }
    }

    #[test]
    fn what_would_blow_up_on_the_way_is_refused() {
        let stretch = target(ResizeMode::Stretch, (224, 224), Crop::None);
        let shortest = target(ResizeMode::Shortest, (256, 256), Crop::Centre([224, 224]));
        for (target, width, height) in
            [(stretch, 1, 24_000_000), (shortest, 1, 24_000_000), (shortest, 24_000_000, 1)]
        {
            let plan = target.plan(Size { width, height }, Limits::default());
            assert!(matches!(plan, Err(ImageError::TooElongated { .. })), "{plan:?}");
        }
        // A small limit on sources is no limit on outputs.
        let source = Size { width: 10, height: 10 };
        assert!(stretch.plan(source, Limits { max_pixels: 100 }).is_ok());
    }
}
