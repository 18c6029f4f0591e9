//! The one thing read from EXIF: how the camera was held.

/// How stored pixels are turned to stand upright: the EXIF values 1 to 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Orientation(u8);

impl Orientation {
    /// As stored.
    pub(super) const UPRIGHT: Self = Self(1);
    const TAG: u16 = 0x0112;

    /// Reads the tag from a TIFF block (what follows `Exif\0\0` in a JPEG, an `eXIf` chunk in a
    /// PNG). Anything malformed, unknown or out of range counts as upright, as in Pillow: broken
    /// metadata is common and says nothing against the picture.
    pub(super) fn from_exif(tiff: &[u8]) -> Self {
        Self::find(tiff).unwrap_or(Self::UPRIGHT)
    }

    /// The EXIF value, 1 to 8.
    pub(super) fn value(self) -> u8 {
        self.0
    }

    /// Whether columns become rows.
    pub(super) fn swaps_sides(self) -> bool {
        self.0 >= 5
    }

    fn find(tiff: &[u8]) -> Option<Self> {
        // Some writers put the JPEG prefix into PNG chunks, or put it twice.
        let mut tiff = tiff;
        while let Some(rest) = tiff.strip_prefix(b"Exif\0\0") {
            tiff = rest;
        }
        let big_endian = match tiff.get(..4)? {
            b"MM\0*" => true,
            b"II*\0" => false,
            _unknown => return None,
        };
        let u16_at = |at: usize| {
            let pair: [u8; 2] = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
            Some(if big_endian { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) })
        };
        let u32_at = |at: usize| {
            let four: [u8; 4] = tiff.get(at..at.checked_add(4)?)?.try_into().ok()?;
            Some(if big_endian { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) })
        };
        let directory = u32_at(4)? as usize;
        let n_entries = usize::from(u16_at(directory)?);
        let mut value = None;
        for entry in 0..n_entries {
            let at = directory.checked_add(2 + 12 * entry)?;
            let Some(tag) = u16_at(at) else { break };
            if tag != Self::TAG || u32_at(at + 4) != Some(1) {
                continue;
            }
            // BYTE, SHORT and LONG; SHORT is the rule. A later entry wins, as in Pillow.
            value = match u16_at(at + 2)? {
                1 => tiff.get(at + 8).map(|&it| u32::from(it)),
                3 => u16_at(at + 8).map(u32::from),
                4 => u32_at(at + 8),
                _other => value,
            };
        }
        u8::try_from(value?).ok().filter(|it| (1..=8).contains(it)).map(Self)
    }

    #[cfg(test)]
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (1..=8).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exif(big_endian: bool, kind: u16, count: u32, value: u16) -> Vec<u8> {
        let short = |it: u16| if big_endian { it.to_be_bytes() } else { it.to_le_bytes() };
        let long = |it: u32| if big_endian { it.to_be_bytes() } else { it.to_le_bytes() };
        let mut out = if big_endian { b"MM\0*".to_vec() } else { b"II*\0".to_vec() };
        out.extend(long(8));
        out.extend(short(1));
        out.extend(short(0x0112));
        out.extend(short(kind));
        out.extend(long(count));
        out.extend(short(value));
        out.extend([0; 6]);
        out
    }

    #[test]
    fn all_eight_values_are_read_in_both_byte_orders() {
        for value in 1..=8 {
            for big_endian in [true, false] {
                let found = Orientation::from_exif(&exif(big_endian, 3, 1, value));
                assert_eq!(u16::from(found.value()), value);
            }
        }
    }

    #[test]
    fn what_is_malformed_is_upright() {
        let good = exif(true, 3, 1, 6);
        let mut far = good.clone();
        far[4..8].fill(0xff);
        let mut prefixed = b"Exif\0\0".to_vec();
        prefixed.extend(&good);
        let cases: &[(&[u8], u8)] = &[
            (&good, 6),
            (&prefixed, 6),
            (&far, 1),
            (&exif(true, 3, 1, 0), 1),
            (&exif(true, 3, 1, 9), 1),
            (&exif(true, 3, 2, 6), 1),
            (&exif(true, 2, 1, 6), 1),
            (b"", 1),
            (b"Exif\0\0", 1),
            (b"MM\0+\0\0\0\x08", 1),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Orientation::from_exif(bytes).value(), *expected, "{bytes:?}");
        }
        for end in 0..good.len() {
            let _any_value_will_do = Orientation::from_exif(&good[..end]);
        }
    }
}
