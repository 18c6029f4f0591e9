//! Damaged images and bombs: each is refused, or comes out as Pillow decodes the same bytes.

use std::{
    env,
    fs::{self, File},
    io::{BufWriter, Write},
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::Command,
    time::Duration,
};

use linesight::imaging::{Limits, Pixels, Preprocess, PreprocessSpec, Workspace};

use crate::{
    parity::{IMAGES, in_channels_of},
    support::python::python,
};

/// Images made from the twenty seeds; fixed, so that every run is the same.
const MUTANTS: u64 = 10_000;
/// As served by default: damaged headers announce up to this.
const LIMITS: Limits = Limits { max_pixels: 24_000_000 };
/// How much the process may grow over what it needed for the seeds themselves.
const MAX_GROWTH_KIB: u64 = 50 << 10;
/// The same for each file that is made to be small and cost much.
const MAX_BOMB_GROWTH_KIB: u64 = 20 << 10;
const BOMBS: [&str; 7] = [
    "bomb-65535.jpg",
    "bomb-50k.png",
    "bomb-thin.png",
    "bomb-short.png",
    "bomb-scans.jpg",
    "bomb-text.png",
    "bomb-profile.png",
];
/// Set in the process that measures; memory is only meaningful in one that does nothing else.
const ALONE: &str = "LINESIGHT_TEST_ALONE";

const SPEC: &str = r#"{"colour": "rgb", "layout": "NCHW", "alpha": "drop", "scale": 1,
    "resize": {"mode": "stretch", "size": [64, 64], "filter": "bilinear"},
    "mean": [0, 0, 0], "std": [1, 1, 1]}"#;

/// [`SPEC`], and the same with every JPEG decoded at a half or a quarter of its size.
fn specs() -> [(&'static str, String); 2] {
    let scaled = SPEC.replace(r#""alpha""#, r#""decode": "scaled", "alpha""#);
    [("accepted", SPEC.to_owned()), ("accepted-scaled", scaled)]
}

fn preprocess(spec: &str) -> Preprocess {
    Preprocess::from_spec(serde_json::from_str(spec).unwrap()).unwrap()
}

#[test]
fn damaged_images_are_refused_or_decoded_as_pillow_does() {
    if env::var_os(ALONE).is_some() {
        return mutate_and_decode();
    }
    let folder = IMAGES.as_path();
    let name = "mutations::damaged_images_are_refused_or_decoded_as_pillow_does";
    let run = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stdout);
    println!("{text}");
    assert!(run.status.success(), "{text}{}", String::from_utf8_lossy(&run.stderr));
    assert!(text.contains("1 passed"), "the test did not find itself: {text}");

    for (accepted, spec) in specs() {
        let accepted = folder.join(accepted);
        let check = python().arg("tests/images/check.py").arg(accepted).arg(spec).output().unwrap();
        let text = String::from_utf8_lossy(&check.stdout);
        println!("{text}");
        assert!(check.status.success(), "{text}{}", String::from_utf8_lossy(&check.stderr));
    }
}

#[test]
fn a_cut_jpeg_is_refused_at_every_reduction() {
    // The seeds are 128 pixels wide or high at least: decoded whole, at a half or a quarter, and at
    // an eighth, where libjpeg makes nothing of most of the coefficients.
    let [whole, scaled] = specs().map(|(_, spec)| spec);
    let eighth = scaled.replace("[64, 64]", "[16, 16]");
    let [whole, scaled, eighth] = [&whole, &scaled, &eighth].map(|it| preprocess(it));
    let mut workspace = Workspace::new();
    let mut n = 0;
    for seed in 0..13 {
        let sound = fs::read(IMAGES.join(format!("seeds/{seed:02}"))).unwrap();
        assert!(sound.starts_with(b"\xff\xd8"), "seed {seed} is no JPEG");
        let end = sound.len() - 2;
        // Everywhere near the end, where little is missing; and all over the file.
        for cut in (0..end).step_by(end / 60).chain(end - 40..end) {
            for closed in [false, true] {
                let mut bytes = sound[..cut].to_vec();
                if closed {
                    bytes.extend(b"\xff\xd9");
                }
                let mut is_refused =
                    |it: &Preprocess| workspace.prepare(&bytes, it, &LIMITS).is_err();
                let place = format!("seed {seed} cut at {cut} of {end}, closed: {closed}");
                // The last bits of a scan are padding, of which the end may be missing.
                assert!(is_refused(&whole) || cut + 2 > end, "{place}: decoded");
                for reduced in [&scaled, &eighth] {
                    assert_eq!(is_refused(reduced), is_refused(&whole), "{place}: {reduced:?}");
                }
                n += 1;
            }
        }
    }
    assert!(n > 2000, "only {n} cuts");
}

#[expect(clippy::print_stdout, reason = "the figures are wanted, and never asserted")]
fn mutate_and_decode() {
    // Made by the parent; making them again here would count against this process.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-images");
    let spec: PreprocessSpec = serde_json::from_str(SPEC).unwrap();
    let [whole, scaled] = specs().map(|(_, spec)| preprocess(&spec));
    let mut workspace = Workspace::new();
    let mut decode = |bytes: &[u8], preprocess: &Preprocess| {
        catch_unwind(AssertUnwindSafe(|| workspace.prepare(bytes, preprocess, &LIMITS).ok()))
            .unwrap_or_else(|_panic| {
                fs::write(folder.join("panicked"), bytes).unwrap();
                unreachable!("an image made `prepare` panic; it is in target/test-images/panicked")
            })
    };
    let seeds: Vec<Vec<u8>> =
        (0..20).map(|n| fs::read(folder.join(format!("seeds/{n:02}"))).unwrap()).collect();
    let sound: Vec<Pixels> =
        seeds.iter().map(|it| decode(it, &whole).expect("every seed is sound")).collect();
    let before = peak_kib();

    let mut records =
        specs().map(|(accepted, _)| BufWriter::new(File::create(folder.join(accepted)).unwrap()));
    let (mut n_accepted, mut slowest) = (0, Duration::ZERO);
    for n in 0..MUTANTS {
        let mut dice = Dice(n);
        let seed = &seeds[dice.below(seeds.len())];
        let mutant = mutate(seed, &mut dice);
        let (pixels, took) = timed(|| decode(&mutant, &whole));
        slowest = slowest.max(took);
        if pixels.is_none() && n % 5 == 0 {
            // An image must not spoil the next; in libjpeg, a bad header spoils its decoder.
            let seed = dice.below(seeds.len());
            assert_eq!(decode(&seeds[seed], &whole), Some(sound[seed].clone()), "after mutant {n}");
        }
        let fewer = decode(&mutant, &scaled);
        assert_eq!(pixels.is_some(), fewer.is_some(), "scaled decoding disagrees on mutant {n}");
        n_accepted += usize::from(pixels.is_some());
        for (pixels, accepted) in [pixels, fewer].into_iter().zip(&mut records) {
            let Some(pixels) = pixels else { continue };
            for blob in [&mutant, &in_channels_of(&spec, &pixels)] {
                let length = u32::try_from(blob.len()).unwrap();
                accepted.write_all(&length.to_le_bytes()).unwrap();
                accepted.write_all(blob).unwrap();
            }
        }
    }
    records.iter_mut().for_each(|it| it.flush().unwrap());
    let growth = peak_kib().saturating_sub(before);
    println!("{n_accepted} of {MUTANTS} accepted, slowest {slowest:?}, grew by {growth} KiB");
    assert!(growth <= MAX_GROWTH_KIB, "grew by {growth} KiB");
    assert!(
        n_accepted * 10 > usize::try_from(MUTANTS).unwrap(),
        "hardly any was accepted: the mutations are too coarse"
    );

    // The limit in force outside of tests.
    let limits = Limits::default();
    for (name, preprocess) in BOMBS.iter().flat_map(|it| [(it, &whole), (it, &scaled)]) {
        let bomb = fs::read(folder.join(name)).unwrap();
        let before = peak_kib();
        let (_refused_or_not, took) =
            timed(|| Workspace::new().prepare(&bomb, preprocess, &limits));
        let growth = peak_kib().saturating_sub(before);
        println!("{name}: {took:?}, grew by {growth} KiB");
        assert!(growth <= MAX_BOMB_GROWTH_KIB, "{name}: grew by {growth} KiB");
    }
}

/// One way of damaging an image, drawn by `dice`.
fn mutate(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut out = seed.to_vec();
    let at = dice.below(out.len());
    match dice.below(12) {
        0 => {
            for _ in 0..=dice.below(4) {
                let at = dice.below(out.len());
                out[at] ^= 1 << dice.below(8);
            }
        }
        // One bit: what a JPEG is likeliest to survive.
        1 | 10 | 11 => out[at] ^= 1 << dice.below(8),
        2 => out[at] = dice.byte(),
        3 => out.truncate(at),
        4 => {
            out.truncate(at);
            out.extend(b"\xff\xd9");
        }
        5 => {
            let junk: Vec<u8> = (0..=dice.below(40)).map(|_| dice.byte()).collect();
            out.splice(at..at, junk);
        }
        6 => {
            let to = out.len().min(at + 1 + dice.below(400));
            out.drain(at..to);
        }
        7 => {
            let parts = segments(&out);
            out.drain(parts[dice.below(parts.len())].clone());
        }
        8 => {
            // A byte in the first 700 is likely a table or a header.
            let at = dice.below(out.len().min(700));
            out[at] = dice.byte();
        }
        _nine => edit_segment(&mut out, dice),
    }
    out
}

/// Changes a JPEG's marker or a byte of its segment; in a PNG a byte of a chunk, whose checksum is
/// then made right, so that the damage gets past it.
fn edit_segment(out: &mut [u8], dice: &mut Dice) {
    let parts = segments(out);
    let part = parts[dice.below(parts.len())].clone();
    if out.starts_with(b"\xff\xd8") {
        let at = part.start + if dice.below(2) == 0 { 1 } else { dice.below(part.len()) };
        out[at] = dice.byte();
        return;
    }
    let checked = part.start + 4..part.end - 4;
    let at = checked.start + dice.below(checked.len());
    out[at] ^= 1 << dice.below(8);
    let sum = crc32(&out[checked.clone()]).to_be_bytes();
    out[checked.end..part.end].copy_from_slice(&sum);
}

/// Where a JPEG's marker segments (scan data belongs to its header) or a PNG's chunks are.
fn segments(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut starts = Vec::new();
    if bytes.starts_with(b"\xff\xd8") {
        let pairs = bytes.windows(2).enumerate();
        starts.extend(pairs.filter(|(_, it)| it[0] == 0xff && it[1] >= 0xc0).map(|(at, _)| at));
    } else {
        let mut at = 8;
        while let Some(length) = bytes.get(at..at + 4) {
            starts.push(at);
            at += 12 + u32::from_be_bytes(length.try_into().unwrap()) as usize;
        }
    }
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    starts.iter().copied().zip(ends).map(|(from, to)| from..to).collect()
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |it, _| {
            (it >> 1) ^ (0xedb8_8320 & (it & 1).wrapping_neg())
        })
    })
}

/// splitmix64: a fixed stream of numbers for each seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let it = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        it ^ (it >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// The most memory this process has held so far.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|it| it.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[expect(clippy::disallowed_types, reason = "reported, never asserted; there is nothing to pause")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let started = std::time::Instant::now();
    let out = work();
    (out, started.elapsed())
}
