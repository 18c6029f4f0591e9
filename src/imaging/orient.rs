//! Turns stored pixels upright.

use super::exif::Orientation;

/// Side of the square walked at once where columns become rows: both its source and its target
/// rows then stay in the first-level cache.
const TILE: usize = 32;

/// Writes `source` (`width` x `height` pixels as stored, `channels` bytes each) upright into
/// `target`, which has the same length. Its sides are swapped where the orientation says so.
pub(super) fn turn(
    source: &[u8],
    (width, height): (usize, usize),
    channels: usize,
    orientation: Orientation,
    target: &mut [u8],
) {
    match channels {
        1 => turn_pixels::<1>(source, (width, height), orientation, target),
        _three => turn_pixels::<3>(source, (width, height), orientation, target),
    }
}

fn turn_pixels<const N: usize>(
    source: &[u8],
    (width, height): (usize, usize),
    orientation: Orientation,
    target: &mut [u8],
) {
    let (source, _) = source.as_chunks::<N>();
    let (target, _) = target.as_chunks_mut::<N>();
    // Where the first pixel of the target comes from, and how far one step along a row and down a
    // column of the target moves in the source. Steps back are two's complement.
    let (right, down) = (1_usize, width);
    let (left, up) = (right.wrapping_neg(), down.wrapping_neg());
    let (last_x, last_y) = (width - 1, (height - 1) * width);
    let (first, step_x, step_y) = match orientation.value() {
        2 => (last_x, left, down),
        3 => (last_x + last_y, left, up),
        4 => (last_y, right, up),
        5 => (0, down, right),
        6 => (last_y, up, right),
        7 => (last_x + last_y, up, left),
        8 => (last_x, down, left),
        _upright => (0, right, down),
    };
    let (columns, rows) = if orientation.swaps_sides() { (height, width) } else { (width, height) };
    for tile_y in (0..rows).step_by(TILE) {
        for tile_x in (0..columns).step_by(TILE) {
            let to_x = columns.min(tile_x + TILE);
            for y in tile_y..rows.min(tile_y + TILE) {
                let mut at = first
                    .wrapping_add(step_y.wrapping_mul(y))
                    .wrapping_add(step_x.wrapping_mul(tile_x));
                for pixel in &mut target[y * columns + tile_x..y * columns + to_x] {
                    *pixel = source[at];
                    at = at.wrapping_add(step_x);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_orientation_is_what_the_standard_draws() {
        // As stored:  1 2 3
        //             4 5 6
        let expected: [(u8, [u8; 6]); 8] = [
            (1, [1, 2, 3, 4, 5, 6]),
            (2, [3, 2, 1, 6, 5, 4]),
            (3, [6, 5, 4, 3, 2, 1]),
            (4, [4, 5, 6, 1, 2, 3]),
            (5, [1, 4, 2, 5, 3, 6]),
            (6, [4, 1, 5, 2, 6, 3]),
            (7, [6, 3, 5, 2, 4, 1]),
            (8, [3, 6, 2, 5, 1, 4]),
        ];
        for (orientation, (value, turned)) in Orientation::all().zip(expected) {
            assert_eq!(orientation.value(), value);
            let mut target = [0; 6];
            turn(&[1, 2, 3, 4, 5, 6], (3, 2), 1, orientation, &mut target);
            assert_eq!(target, turned, "orientation {value}");
        }
    }

    #[test]
    fn tiles_join() {
        let (width, height) = (TILE * 2 + 5, TILE + 3);
        let source: Vec<u8> = (0..=250).cycle().take(width * height * 3).collect();
        let (mut once, mut twice) = (vec![0; source.len()], vec![0; source.len()]);
        // 6 and 8 undo each other; so do 5 and 7 with themselves.
        for (there, back) in [(5, 5), (6, 8), (7, 7), (8, 6), (2, 2), (3, 3), (4, 4)] {
            let find = |value| Orientation::all().find(|it| it.value() == value).unwrap();
            turn(&source, (width, height), 3, find(there), &mut once);
            let sides = if there >= 5 { (height, width) } else { (width, height) };
            turn(&once, sides, 3, find(back), &mut twice);
            assert_eq!(source, twice, "{there} then {back}");
        }
    }
}
