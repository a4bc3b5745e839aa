//! JPEG-LS as in FCIDECOMP (filter 32018), which compresses the images of Meteosat Third Generation: ISO/IEC 14495-1, lossless and
//! near-lossless, up to four components, without restarts, mapping tables and transforms of colour.

use hdf5_reader::error::Error;
use hdf5_reader::messages::filter_pipeline::FilterDescription;

/// How many client values there are.
const VALUE_COUNT: usize = 13;
/// The most components of a chunk.
const MOST_COMPONENTS: usize = 4;
/// The orders of lengths of runs.
const RUNS: [u32; 32] = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15];
/// The contexts of differences between neighbours, of which two that mirror each other are one.
const CONTEXTS: usize = 365;

/// Decodes a chunk. Client values: the width of elements; components, lines and samples of a line; what the encoder was told.
pub(super) fn decode(filter: &FilterDescription, data: &[u8], most_bytes: u64) -> Result<Vec<u8>, Error> {
    let &[width, components, lines, samples, ..] = filter.client_data.as_slice() else {
        return Err(corrupt("has no client values"));
    };
    if filter.client_data.len() != VALUE_COUNT || !(1..=2).contains(&width) {
        return Err(corrupt("has client values that can't be read"));
    }
    let size = u128::from(components) * u128::from(lines) * u128::from(samples) * u128::from(width);
    if size > u128::from(most_bytes) {
        return Err(corrupt(&format!("decodes to more than {most_bytes} bytes")));
    }
    // No line takes less than a bit: a larger claim is none.
    if lines as usize / 8 > data.len() {
        return Err(corrupt("ends too early"));
    }
    Image { width: width as usize, components: components as usize, lines: lines as usize, samples: samples as usize }.decode(data)
}

fn corrupt(what: &str) -> Error {
    Error::InvalidData(format!("a JPEG-LS chunk {what}"))
}

fn early() -> Error {
    corrupt("ends too early")
}

fn unsupported(what: &str) -> Error {
    Error::UnsupportedFilter(format!("JPEG-LS with {what}"))
}

/// A big-endian number of two bytes.
fn number(segment: &[u8], place: usize) -> Result<i32, Error> {
    let bytes = segment.get(place..place + 2).and_then(|bytes| <[u8; 2]>::try_from(bytes).ok());
    bytes.map(|bytes| i32::from(u16::from_be_bytes(bytes))).ok_or_else(early)
}

/// What a chunk is expected to hold.
struct Image {
    width: usize,
    components: usize,
    lines: usize,
    samples: usize,
}

impl Image {
    fn decode(&self, data: &[u8]) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        let (mut place, mut bits, mut presets, mut decoded) = (0, None, [0; 5], 0);
        while decoded < self.components {
            let Some([0xff, marker]) = data.get(place..place + 2) else { return Err(early()) };
            place += 2;
            if *marker == 0xd8 {
                continue;
            }
            let length = number(data, place)? as usize;
            let segment = data.get(place + 2..place + length).ok_or_else(early)?;
            place += length;
            match marker {
                0xf7 => {
                    bits = Some(self.check_frame(segment)?);
                    out = vec![0; self.components * self.lines * self.samples * self.width];
                }
                0xf8 if segment.first() == Some(&1) => {
                    for (at, preset) in presets.iter_mut().enumerate() {
                        *preset = number(segment, 1 + 2 * at)?;
                    }
                }
                0xf8 => return Err(unsupported("mapping tables or extended sizes")),
                0xe8 if segment.starts_with(b"mrfx") && segment.get(4) != Some(&0) => return Err(unsupported("a transform of colour")),
                0xda => {
                    let scan = Scan::new(segment, bits.ok_or_else(|| corrupt("has no frame"))?, presets)?;
                    let (some, part) = (scan.components, data.get(place..).unwrap_or(&[]));
                    if some == 0 || decoded + some > self.components || some > 1 && some != self.components {
                        return Err(corrupt("has a scan of some components"));
                    }
                    place += scan.decode(self, decoded, part, &mut out)?;
                    decoded += some;
                }
                0xe0..=0xef | 0xfe => {}
                0xdd if number(segment, 0)? == 0 => {}
                _ => return Err(unsupported(&format!("a segment ff{marker:02x}"))),
            }
        }
        Ok(out)
    }

    /// The bits of samples, if the frame is what the dataset says.
    fn check_frame(&self, segment: &[u8]) -> Result<u32, Error> {
        let (bits, components) = (u32::from(*segment.first().ok_or_else(early)?), *segment.get(5).ok_or_else(early)?);
        let (lines, samples) = (number(segment, 1)? as usize, number(segment, 3)? as usize);
        let same = lines == self.lines && samples == self.samples && usize::from(components) == self.components;
        if !same
            || !(2..=16).contains(&bits)
            || bits.div_ceil(8) as usize != self.width
            || !(1..=MOST_COMPONENTS).contains(&self.components)
        {
            let what = format!("has {components} x {lines} x {samples} samples of {bits} bits, which its dataset has not");
            return Err(corrupt(&what));
        }
        Ok(bits)
    }

    /// Where a sample goes: components are one behind the other if they come one by one, and otherwise side by side.
    fn store(&self, out: &mut [u8], component: usize, together: bool, line: usize, values: &[i32]) {
        let (start, step) = match together {
            true => (line * self.samples * self.components + component, self.components),
            false => ((component * self.lines + line) * self.samples, 1),
        };
        let places = out.chunks_exact_mut(self.width).skip(start).step_by(step);
        for (place, value) in places.zip(values) {
            place.copy_from_slice(&value.to_le_bytes()[..self.width]);
        }
    }
}

/// How far the errors in a context went, and how often.
#[derive(Clone)]
struct Context {
    sum: i64,
    bias: i64,
    correction: i32,
    count: i64,
}

impl Context {
    /// Counts an error; from time to time what is long ago counts half.
    fn count_one(&mut self, reset: i64) {
        if self.count == reset {
            self.sum >>= 1;
            self.bias >>= 1;
            self.count >>= 1;
        }
        self.count += 1;
    }
}

/// The parameters of a scan, and what it learns.
struct Scan {
    components: usize,
    interleave: u8,
    near: i32,
    most: i32,
    range: i32,
    range_bits: u32,
    limit: u32,
    thresholds: [i32; 3],
    reset: i64,
    contexts: Vec<Context>,
    /// Of samples that end a run: those whose neighbours differ, and those whose neighbours are alike.
    ends: [Context; 2],
}

impl Scan {
    /// A segment that starts a scan: its components with their tables, the largest error, the interleaving, the transform of points.
    fn new(segment: &[u8], bits: u32, presets: [i32; 5]) -> Result<Self, Error> {
        let components = usize::from(*segment.first().ok_or_else(early)?);
        let Some([near, interleave, point]) = segment.get(1 + 2 * components..) else { return Err(early()) };
        let tables = segment.iter().skip(2).step_by(2).take(components).any(|table| *table != 0);
        // CharLS can't decode two components side by side, nor encode them.
        let single = if *interleave == 0 { components == 1 } else { components > 2 };
        if tables || *point != 0 || *interleave > 2 || !single {
            return Err(unsupported("mapping tables, a transform of points or an unknown interleaving"));
        }
        let near = i32::from(*near);
        let full = (1 << bits) - 1;
        // CharLS, which writes these files, takes only part of a preset range into account, and with a preset reset and no range, it
        // destroys what is not lossless.
        let reset = if presets[4] == 0 { 64 } else { presets[4] };
        if presets[0] != full && (presets[0] != 0 || reset != 64 && near != 0) {
            return Err(unsupported("a preset range of samples"));
        }
        let thresholds = thresholds(full, near, &presets);
        let ordered = near < thresholds[0] && thresholds.is_sorted() && thresholds[2] <= full;
        if near > full / 2 || reset < 3 || !ordered {
            return Err(corrupt("has parameters that can't be"));
        }
        let range = (full + 2 * near) / (2 * near + 1) + 1;
        let context = Context { sum: i64::from(((range + 32) / 64).max(2)), bias: 0, correction: 0, count: 1 };
        Ok(Self {
            components,
            interleave: *interleave,
            near,
            most: full,
            range,
            range_bits: 32 - (range - 1).leading_zeros(),
            limit: 2 * (bits + bits.max(8)),
            thresholds,
            reset: i64::from(reset),
            contexts: vec![context.clone(); CONTEXTS],
            ends: [context.clone(), context],
        })
    }

    /// Decodes the scan into its place, and says how many bytes it took.
    fn decode(mut self, image: &Image, first: usize, data: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        let mut bits = Bits { data, place: 0, word: 0, count: 0 };
        // Of each component the line above and this one, both with a sample more on either side.
        let mut above = vec![vec![0; image.samples + 2]; self.components];
        let mut lines = above.clone();
        let mut runs = [0; MOST_COMPONENTS];
        for line in 0..image.lines {
            for (above, line) in above.iter_mut().zip(&mut lines) {
                above[image.samples + 1] = above[image.samples];
                line[0] = above[1];
            }
            match self.interleave {
                2 => self.line(&mut bits, &above, &mut lines, &mut runs[0])?,
                _ => {
                    for ((above, line), run) in above.chunks(1).zip(lines.chunks_mut(1)).zip(&mut runs) {
                        self.line(&mut bits, above, line, run)?;
                    }
                }
            }
            for (component, values) in lines.iter().enumerate() {
                image.store(out, first + component, self.interleave > 0, line, &values[1..=image.samples]);
            }
            std::mem::swap(&mut above, &mut lines);
        }
        bits.end()
    }

    /// Decodes a line of one component, or of all whose samples alternate.
    fn line(&mut self, bits: &mut Bits, above: &[Vec<i32>], lines: &mut [Vec<i32>], run: &mut usize) -> Result<(), Error> {
        let mut place = 1;
        let end = lines.first().map_or(0, |line| line.len() - 1);
        while place < end {
            let mut kinds = [0; MOST_COMPONENTS];
            for ((kind, above), line) in kinds.iter_mut().zip(above).zip(lines.iter()) {
                let [left, top, corner, right] = neighbours(above, line, place);
                *kind = 81 * self.level(right - top) + 9 * self.level(top - corner) + self.level(corner - left);
            }
            if kinds.iter().any(|kind| *kind != 0) {
                for ((above, line), kind) in above.iter().zip(lines.iter_mut()).zip(kinds) {
                    line[place] = self.sample(bits, neighbours(above, line, place), kind)?;
                }
                place += 1;
                continue;
            }
            let length = run_length(bits, run, end - place)?;
            for line in lines.iter_mut() {
                let value = line[place - 1];
                line[place..place + length].fill(value);
            }
            place += length;
            if place < end {
                let alone = lines.len() == 1;
                for (above, line) in above.iter().zip(lines.iter_mut()) {
                    line[place] = self.run_end(bits, line[place - 1], above[place], alone, *run)?;
                }
                *run = run.saturating_sub(1);
                place += 1;
            }
        }
        Ok(())
    }

    /// Which of nine levels a difference is on.
    fn level(&self, difference: i32) -> i32 {
        let size = difference.abs();
        let passed = self.thresholds.iter().filter(|threshold| size >= **threshold).count() as i32;
        if size <= self.near { 0 } else { (passed + 1) * difference.signum() }
    }

    /// A sample whose neighbours differ.
    fn sample(&mut self, bits: &mut Bits, [left, top, corner, _]: [i32; 4], kind: i32) -> Result<i32, Error> {
        let (near, most, reset) = (self.near, self.most, self.reset);
        let (golomb, sign) = (self.limit, if kind < 0 { -1 } else { 1 });
        let context = &mut self.contexts[kind.unsigned_abs() as usize];
        // A median of the neighbours and what their slope leads to, corrected by experience.
        let (low, high) = (left.min(top), left.max(top));
        let guess = if corner >= high {
            low
        } else if corner <= low {
            high
        } else {
            left + top - corner
        };
        let guess = (guess + sign * context.correction).clamp(0, most);
        let order = order(context.count, context.sum)?;
        let code = bits.golomb(order, golomb, self.range_bits)?;
        let turned = near == 0 && order == 0 && 2 * context.bias <= -context.count;
        // Even codes stand for errors that are not negative, odd codes for negative ones; or the other way round.
        let error = if (code & 1 == 0) != turned { code >> 1 } else { -(code >> 1) - 1 };
        context.sum += i64::from(error.abs());
        context.bias += i64::from(error) * i64::from(2 * near + 1);
        context.count_one(reset);
        if context.bias <= -context.count {
            context.bias = (context.bias + context.count).max(1 - context.count);
            context.correction = (context.correction - 1).max(-128);
        } else if context.bias > 0 {
            context.bias = (context.bias - context.count).min(0);
            context.correction = (context.correction + 1).min(127);
        }
        Ok(self.rebuilt(guess, sign * error))
    }

    /// The sample that ends a run.
    fn run_end(&mut self, bits: &mut Bits, left: i32, top: i32, alone: bool, run: usize) -> Result<i32, Error> {
        let alike = alone && (left - top).abs() <= self.near;
        let sign = if !alike && left > top { -1 } else { 1 };
        let (limit, range_bits, reset) = (self.limit - RUNS[run] - 1, self.range_bits, self.reset);
        let context = &mut self.ends[usize::from(alike)];
        let order = order(context.count, context.sum + if alike { context.count >> 1 } else { 0 })?;
        let code = bits.golomb(order, limit, range_bits)?;
        // Here the bias is how often the error was negative, and the code is one less if the neighbours are alike, as it can't be 0 then.
        let shifted = code + i32::from(alike);
        let (size, odd) = ((shifted + 1) >> 1, shifted & 1 == 1);
        let error = if (order != 0 || 2 * context.bias >= context.count) == odd { -size } else { size };
        context.bias += i64::from(error < 0);
        context.sum += i64::from((code + 1 - i32::from(alike)) >> 1);
        context.count_one(reset);
        Ok(self.rebuilt(if alike { left } else { top }, sign * error))
    }

    /// A guess and an error, which wraps around.
    fn rebuilt(&self, guess: i32, error: i32) -> i32 {
        let (step, near) = (2 * self.near + 1, self.near);
        let value = guess + error * step;
        let value = match value {
            _ if value < -near => value + self.range * step,
            _ if value > self.most + near => value - self.range * step,
            _ => value,
        };
        value.clamp(0, self.most)
    }
}

/// The samples to the left of a place, above it, above to the left and above to the right.
fn neighbours(above: &[i32], line: &[i32], place: usize) -> [i32; 4] {
    [line[place - 1], above[place], above[place - 1], above[place + 1]]
}

/// The thresholds of differences: those that were set, and for the others what the standard says.
fn thresholds(most: i32, near: i32, presets: &[i32; 5]) -> [i32; 3] {
    let mut thresholds = [0; 3];
    let mut least = near + 1;
    for (place, (base, factor, least_base)) in [(3, 3, 2), (7, 5, 3), (21, 7, 4)].into_iter().enumerate() {
        let usual = match most {
            128.. => ((most.min(4095) + 128) >> 8) * (base - least_base) + least_base + factor * near,
            _ => least_base.max(base / (256 / (most + 1)) + factor * near),
        };
        let usual = if usual > most || usual < least { least } else { usual };
        thresholds[place] = if presets[place + 1] == 0 { usual } else { presets[place + 1] };
        least = thresholds[place];
    }
    thresholds
}

/// The order of the code for errors of that mean.
fn order(count: i64, sum: i64) -> Result<u32, Error> {
    (0..=16).find(|order| count << order >= sum).ok_or_else(|| corrupt("has errors out of range"))
}

/// How many samples of a line repeat.
fn run_length(bits: &mut Bits, run: &mut usize, most: usize) -> Result<usize, Error> {
    let mut length = 0;
    while bits.take(1)? == 1 {
        let block = 1 << RUNS[*run];
        if most - length < block {
            return Ok(most);
        }
        length += block;
        *run = (*run + 1).min(RUNS.len() - 1);
        if length == most {
            return Ok(most);
        }
    }
    length += bits.take(RUNS[*run])? as usize;
    if length < most { Ok(length) } else { Err(corrupt("has a run that is longer than its line")) }
}

/// The bits of a scan. Behind a byte of ones, the first bit of the next is no data; if it is one, the two bytes are a marker.
struct Bits<'a> {
    data: &'a [u8],
    place: usize,
    /// Bits that are read, from the highest on.
    word: u64,
    count: u32,
}

impl Bits<'_> {
    fn fill(&mut self) {
        while self.count <= 48 {
            let Some(byte) = self.data.get(self.place) else { return };
            let stuffed = self.place > 0 && self.data[self.place - 1] == 0xff;
            let marker = *byte == 0xff && self.data.get(self.place + 1).is_none_or(|next| *next >= 0x80);
            if marker || stuffed && *byte >= 0x80 {
                return;
            }
            let bits = if stuffed { 7 } else { 8 };
            self.word |= u64::from(*byte) << (64 - bits - self.count);
            self.count += bits;
            self.place += 1;
        }
    }

    /// Up to 16 bits.
    fn take(&mut self, bits: u32) -> Result<u32, Error> {
        if self.count < bits {
            self.fill();
        }
        self.count = self.count.checked_sub(bits).ok_or_else(early)?;
        let taken = self.word.checked_shr(64 - bits).unwrap_or(0);
        self.word <<= bits;
        Ok(taken as u32)
    }

    /// A Golomb code of that order, or, if it were longer than the limit, the number itself.
    fn golomb(&mut self, order: u32, limit: u32, range_bits: u32) -> Result<i32, Error> {
        let (mut zeros, most) = (0, limit - range_bits - 1);
        loop {
            self.fill();
            let some = self.word.leading_zeros().min(self.count);
            zeros += some;
            if some < self.count {
                self.take_long(some + 1);
                break;
            }
            if self.count == 0 {
                return Err(early());
            }
            self.take_long(some);
        }
        let code = match zeros {
            _ if zeros < most => zeros << order | self.take(order)?,
            _ if zeros == most => self.take(range_bits)? + 1,
            _ => return Err(corrupt("has a code that is too long")),
        };
        Ok(code as i32)
    }

    /// Drops bits that are there.
    fn take_long(&mut self, bits: u32) {
        self.word = self.word.checked_shl(bits).unwrap_or(0);
        self.count -= bits;
    }

    /// Where the marker behind the scan stands. Bytes of bits that were read ahead all lie before it.
    fn end(self) -> Result<usize, Error> {
        let rest = self.data.get(self.place..).unwrap_or(&[]);
        let marker = rest.windows(2).position(|pair| pair[0] == 0xff && pair[1] >= 0x80);
        marker.map(|marker| self.place + marker).ok_or_else(early)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Six lines of eight numbers, with runs, an end of a run, and a number that is far from its neighbours.
    const RAW: [u8; 81] = [
        0xff, 0xd8, 0xff, 0xf7, 0, 0xb, 0x10, 0, 6, 0, 8, 1, 1, 0x11, 0, 0xff, 0xf8, 0, 0xd, 1, 0xff, 0xff, 0, 0x12, 0, 0x43, 1, 0x14, 0,
        0x40, 0xff, 0xda, 0, 8, 1, 1, 0, 0, 0, 0, 0x40, 0x18, 1, 0, 0x40, 0x10, 8, 4, 2, 1, 0, 0x3a, 7, 0xca, 0x41, 0x38, 0x14, 1, 0x19,
        0x15, 3, 0xa0, 0x8c, 0x21, 0x81, 0xd1, 0x50, 0x1a, 3, 0x40, 0x50, 0x14, 2, 5, 0, 0x81, 0xe0, 0x2f, 0xf0, 0xff, 0xd9,
    ];
    const VALUES: [u32; VALUE_COUNT] = [2, 1, 6, 8, 16, 1, 0, 0, 0, 0, 0, 0, 0];

    fn decoded(values: &[u32], raw: &[u8]) -> Result<Vec<u8>, Error> {
        decode(&FilterDescription { id: 32_018, name: None, client_data: values.to_vec() }, raw, 1 << 20)
    }

    #[test]
    fn an_image_comes_back() {
        let lines: [[u16; 8]; 6] = [[1; 8], [1, 1, 1, 1, 9, 65535, 9, 9], [0, 7, 0, 7, 0, 7, 0, 7], [3; 8], [3; 8], [3; 8]];
        assert_eq!(decoded(&VALUES, &RAW).unwrap(), lines.concat().into_iter().flat_map(u16::to_le_bytes).collect::<Vec<u8>>());
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        assert!((0..RAW.len()).all(|length| decoded(&VALUES, &RAW[..length]).is_err()));
        assert!((0..VALUES.len()).all(|length| decoded(&VALUES[..length], &RAW).is_err()));
        // Another number of lines than in the frame, and more than the limit.
        let with_lines = |lines| [2, 1, lines, 8, 16, 1, 0, 0, 0, 0, 0, 0, 0];
        assert!(decoded(&with_lines(7), &RAW).unwrap_err().to_string().contains("its dataset has not"));
        assert!(decoded(&with_lines(u32::MAX), &RAW).unwrap_err().to_string().contains("more than"));
    }
}
