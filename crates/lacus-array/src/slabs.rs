//! Contiguous data as chunks: slabs of rows, so that what is stored in one piece is not read in one piece.

/// Bytes of a slab, about: few enough to stream, many enough that a request is worth its latency.
const SLAB_BYTES: u64 = 4 * 1024 * 1024;

/// The extent of slabs of an array in C order whose elements are `width` bytes. A slab is contiguous.
pub fn slab_extent(shape: &[u64], width: usize) -> Vec<u64> {
    let mut extent: Vec<u64> = shape.iter().map(|extent| (*extent).max(1)).collect();
    let mut bytes = extent.iter().fold(width as u64, |product: u64, extent| product.saturating_mul(*extent));
    for rows in &mut extent {
        if bytes <= SLAB_BYTES {
            break;
        }
        let row = (bytes / *rows).max(1);
        *rows = (SLAB_BYTES / row).clamp(1, *rows);
        bytes = row.saturating_mul(*rows);
    }
    extent
}

/// Where a slab begins, in elements, and how many elements of it lie inside of the array; the rest is beyond the array's end.
pub fn slab_range(shape: &[u64], extent: &[u64], chunk: &[u64]) -> (u64, u64) {
    let (mut start, mut stride, mut inside) = (0u64, 1u64, 1u64);
    for axis in (0..shape.len()).rev() {
        let first = chunk[axis].saturating_mul(extent[axis]);
        // A shape that no file can hold leads beyond its end, where the reader refuses to go.
        start = first.saturating_mul(stride).saturating_add(start);
        stride = stride.saturating_mul(shape[axis]);
        inside = inside.saturating_mul(extent[axis].min(shape[axis].saturating_sub(first)));
    }
    (start, inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_are_contiguous_and_cover_the_array() {
        for shape in [vec![], vec![7], vec![3, 5_000_000], vec![100, 720, 1440], vec![1, 2, 3_000_000_000]] {
            let extent = slab_extent(&shape, 4);
            let cells: u64 = extent.iter().product();
            assert!(cells * 4 <= SLAB_BYTES || cells == 1, "{shape:?} {extent:?}");
            // All axes behind the first that is cut are whole, all before it are cut to one.
            let cut = extent.iter().zip(&shape).position(|(extent, shape)| extent < shape).unwrap_or(shape.len());
            assert!(extent[..cut].iter().zip(&shape).all(|(extent, shape)| extent == shape));
            let last = extent.iter().zip(&shape).rposition(|(extent, shape)| extent < shape).unwrap_or(0);
            assert!(extent.iter().take(last).all(|extent| *extent == 1), "{shape:?} {extent:?}");
        }
        assert_eq!(slab_range(&[10, 3], &[4, 3], &[2, 0]), (24, 6));
        assert_eq!(slab_range(&[], &[], &[]), (0, 1));
    }
}
