//! Compressed bytes to pixels in the model's channels, by libjpeg-turbo and `png`.

use std::{
    io::Cursor,
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::{
    error::ImageError,
    geometry::{Reduction, Size},
    header::{Format, Limits},
    jpeg_stream::JpegHead,
    png_chunks::{PngHead, Samples, truncated, undecodable},
    resize::room_in,
    spec::Colour,
    workspace::Canvas,
};

/// More scans than this are an attack: libjpeg writes 10 at most, the best optimisers 20 or so.
const MAX_SCANS: usize = 100;
/// A scan costs time by its pixels however few its bytes: large images get fewer, down to this.
const MAX_SCANS_OF_LARGEST: usize = 20;

/// What `png` may allocate besides the pixels: a few rows, a palette, chunks it has to keep.
const PNG_LIMIT_BYTES: usize = 64 << 20;

/// Decodes a JPEG that has all its scans, to the size of the canvas.
///
/// The settings are those of Pillow, so that the pixels are, too: accurate integer DCT and smooth
/// upsampling, both defaults. What libjpeg calls a warning (data missing, left over or damaged) is
/// an error here: `turbojpeg` reports either as a failure.
pub(super) fn decode_jpeg(
    bytes: &[u8],
    head: &JpegHead<'_>,
    limits: Limits,
    reduction: Reduction,
    canvas: Canvas<'_>,
) -> Result<(), ImageError> {
    // Time goes by the pixels that are stored: a scan is read whole, however few are made of it.
    let pixels = u64::from(head.width) * u64::from(head.height);
    let share = usize::try_from(limits.max_pixels / pixels).unwrap_or(MAX_SCANS);
    let max_scans = share.saturating_mul(MAX_SCANS_OF_LARGEST).min(MAX_SCANS);
    head.check_scans(bytes, max_scans)?;

    let (format, reduce) = match (canvas.colour, head.is_grey()) {
        (Colour::Grey, true) => (turbojpeg::PixelFormat::GRAY, false),
        // Not libjpeg's own grey, which is the stored luma: Pillow goes by way of RGB.
        (Colour::Grey, false) => (turbojpeg::PixelFormat::RGB, true),
        (Colour::Rgb, _) => (turbojpeg::PixelFormat::RGB, false),
        (Colour::Bgr, _) => (turbojpeg::PixelFormat::BGR, false),
    };
    let stored = Size { width: head.width, height: head.height };
    let Canvas { colour, decoded, raw } = canvas;
    if !reduce {
        return decompress(bytes, format, (stored, reduction), decoded);
    }
    let raw = room_in(raw, decoded.len() * format.size());
    decompress(bytes, format, (stored, reduction), raw)?;
    to_colour(raw.as_chunks::<3>().0, colour, decoded, |&it| it);
    Ok(())
}

/// Makes a decoder for each image, because libjpeg carries state from one to the next: an image
/// without tables is decoded with those of the image before, and one that fails in its header
/// leaves the decoder unable to read any other. Making one costs microseconds.
fn decompress(
    bytes: &[u8],
    format: turbojpeg::PixelFormat,
    (stored, reduction): (Size, Reduction),
    pixels: &mut [u8],
) -> Result<(), ImageError> {
    let mut decoder = turbojpeg::Decompressor::new()
        .expect("making a decoder fails only without memory for a few kilobytes");
    let header = decoder.read_header(bytes).map_err(|it| explain(&it))?;
    if (header.width, header.height) != (stored.width as usize, stored.height as usize) {
        return Err(jpeg("it gives its size in two ways"));
    }
    decoder
        .set_scaling_factor(turbojpeg::ScalingFactor::new(1, reduction.times() as usize))
        .expect("libjpeg scales by every eighth");
    let Size { width, height } = reduction.of(stored);
    let (width, height) = (width as usize, height as usize);
    let pitch = width * format.size();
    let image = turbojpeg::Image { pixels, width, pitch, height, format };
    decoder.decompress(bytes, image).map_err(|it| explain(&it))
}

/// Decodes the one frame of a PNG. A panic in the decoder is an error of the image.
pub(super) fn decode_png(
    bytes: &[u8],
    head: &PngHead<'_>,
    canvas: Canvas<'_>,
) -> Result<(), ImageError> {
    // The buffers hold plain bytes, which the next image overwrites: nothing can be left broken.
    catch_unwind(AssertUnwindSafe(|| decode_png_unguarded(bytes, head, canvas)))
        .unwrap_or_else(|_panic| Err(undecodable("the decoder gave up on it")))
}

fn decode_png_unguarded(
    bytes: &[u8],
    head: &PngHead<'_>,
    canvas: Canvas<'_>,
) -> Result<(), ImageError> {
    let mut options = png::DecodeOptions::default();
    // Every checksum counts, as for Pillow; text and profiles are not even inflated.
    options.set_ignore_checksums(false);
    options.set_skip_ancillary_crc_failures(false);
    options.set_ignore_text_chunk(true);
    options.set_ignore_iccp_chunk(true);
    let mut decoder = png::Decoder::new_with_options(Cursor::new(bytes), options);
    decoder.set_limits(png::Limits { bytes: PNG_LIMIT_BYTES });
    // A palette is looked up here, because `png` takes an index beyond its end for black.
    let is_palette = head.samples == Samples::Palette;
    decoder.set_transformations(if is_palette {
        png::Transformations::IDENTITY
    } else {
        png::Transformations::EXPAND
    });
    let mut reader = decoder.read_info().map_err(|it| explain_png(&it))?;
    let n = reader.output_buffer_size().ok_or_else(|| undecodable("its rows are too long"))?;

    let (output, depth) = reader.output_color_type();
    let direct = match output {
        png::ColorType::Rgb => canvas.colour == Colour::Rgb,
        png::ColorType::Grayscale => canvas.colour == Colour::Grey,
        png::ColorType::Indexed | png::ColorType::GrayscaleAlpha | png::ColorType::Rgba => false,
    };
    let Canvas { colour, decoded, raw } = canvas;
    let fits = is_palette || depth == png::BitDepth::Eight;
    if !fits || (direct && decoded.len() != n) {
        return Err(undecodable("its header is contradictory"));
    }
    if direct {
        return read_to_end(&mut reader, decoded);
    }
    let raw = room_in(raw, n);
    read_to_end(&mut reader, raw)?;
    match output {
        png::ColorType::Rgb => to_colour(raw.as_chunks::<3>().0, colour, decoded, |&it| it),
        png::ColorType::Rgba => {
            to_colour(raw.as_chunks::<4>().0, colour, decoded, |&[r, g, b, _]| [r, g, b]);
        }
        png::ColorType::Grayscale => to_colour(raw, colour, decoded, |&it| [it; 3]),
        png::ColorType::GrayscaleAlpha => {
            to_colour(raw.as_chunks::<2>().0, colour, decoded, |&[it, _]| [it; 3]);
        }
        png::ColorType::Indexed => {
            let palette = reader.info().palette.as_deref().unwrap_or_default();
            let palette = palette.as_chunks::<3>().0;
            let width = head.width as usize;
            let indices = unpack(raw, width, depth as u8);
            return look_up(indices, palette, colour, decoded);
        }
    }
    Ok(())
}

/// Reads the pixels, and then the chunks behind them for their checksums.
fn read_to_end(
    reader: &mut png::Reader<Cursor<&[u8]>>,
    pixels: &mut [u8],
) -> Result<(), ImageError> {
    reader.next_frame(pixels).map_err(|it| explain_png(&it))?;
    reader.finish().map_err(|it| explain_png(&it))
}

/// The indices in rows of packed samples of `depth` bits; rows start on whole bytes.
fn unpack(packed: &[u8], width: usize, depth: u8) -> impl Iterator<Item = usize> {
    let depth = usize::from(depth);
    let per_byte = 8 / depth;
    let mask = usize::from(u8::MAX) >> (8 - depth);
    packed.chunks_exact(width.div_ceil(per_byte)).flat_map(move |row| {
        (0..width).map(move |x| {
            let shift = 8 - depth * (x % per_byte + 1);
            usize::from(row[x / per_byte]) >> shift & mask
        })
    })
}

fn look_up(
    indices: impl Iterator<Item = usize>,
    palette: &[[u8; 3]],
    colour: Colour,
    target: &mut [u8],
) -> Result<(), ImageError> {
    let channels = usize::from(colour.channels());
    let mut converted = vec![0; palette.len() * channels];
    to_colour(palette, colour, &mut converted, |&it| it);
    for (index, pixel) in indices.zip(target.chunks_exact_mut(channels)) {
        let found = converted.get(index * channels..(index + 1) * channels);
        pixel.copy_from_slice(found.ok_or_else(|| undecodable("a pixel is not in its palette"))?);
    }
    Ok(())
}

/// Writes pixels, given as RGB by `rgb`, in the model's channels.
fn to_colour<P>(pixels: &[P], colour: Colour, target: &mut [u8], rgb: impl Fn(&P) -> [u8; 3]) {
    let three = target.as_chunks_mut::<3>().0;
    match colour {
        Colour::Rgb => three.iter_mut().zip(pixels).for_each(|(to, it)| *to = rgb(it)),
        Colour::Bgr => three.iter_mut().zip(pixels).for_each(|(to, it)| {
            let [r, g, b] = rgb(it);
            *to = [b, g, r];
        }),
        Colour::Grey => target.iter_mut().zip(pixels).for_each(|(to, it)| *to = luma(rgb(it))),
    }
}

/// ITU-R 601 luma in Pillow's arithmetic; exact for grey.
fn luma([r, g, b]: [u8; 3]) -> u8 {
    let sum = 19_595 * u32::from(r) + 38_470 * u32::from(g) + 7_471 * u32::from(b) + 0x8000;
    #[expect(clippy::cast_possible_truncation, reason = "the weights add up to 2^16")]
    let luma = (sum >> 16) as u8;
    luma
}

fn jpeg(what: &'static str) -> ImageError {
    ImageError::Undecodable { format: Format::Jpeg, what }
}

/// Says in our words what libjpeg found; its own stay inside.
fn explain(error: &turbojpeg::Error) -> ImageError {
    let text = error.to_string().to_ascii_lowercase();
    if text.contains("premature end") {
        let what = "its data ends before the picture does";
        return ImageError::Truncated { format: Format::Jpeg, what };
    }
    jpeg(if text.contains("corrupt") { "its data is damaged" } else { "it is malformed" })
}

/// Says in our words what `png` found.
fn explain_png(error: &png::DecodingError) -> ImageError {
    match error {
        png::DecodingError::IoError(_) => truncated("its data ends before the picture does"),
        png::DecodingError::Format(_) => undecodable("its data is damaged or malformed"),
        png::DecodingError::Parameter(_) => undecodable("it is malformed"),
        png::DecodingError::LimitsExceeded => undecodable("one of its chunks is too large"),
    }
}
