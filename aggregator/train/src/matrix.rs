//! Products of small row-major matrices in a fixed order, so that a run gives the same bits twice.

/// `bias + x * weight`, one row of `inner` values each.
pub(crate) fn affine(x: &[f32], weight: &[f32], bias: &[f32], rows: usize, inner: usize) -> Vec<f32> {
    let mut out = bias.repeat(rows);
    add_product(x, weight, &mut out, rows, inner);
    out
}

/// `a * b`.
pub(crate) fn product(a: &[f32], b: &[f32], rows: usize, inner: usize) -> Vec<f32> {
    let mut out = vec![0.0; rows * (b.len() / inner.max(1))];
    add_product(a, b, &mut out, rows, inner);
    out
}

/// `out += a * b`, row-major. Four products at a time enter a sum while it is in a register, in the order of `inner`.
pub(crate) fn add_product(a: &[f32], b: &[f32], out: &mut [f32], rows: usize, inner: usize) {
    if rows == 0 || inner == 0 {
        return;
    }
    let columns = out.len() / rows;
    let (four_lines, last_lines) = b.split_at(inner / 4 * 4 * columns);
    for (line, out) in a.chunks_exact(inner).zip(out.chunks_exact_mut(columns)) {
        let (fours, last) = line.as_chunks::<4>();
        for ([w, x, y, z], lines) in fours.iter().zip(four_lines.chunks_exact(4 * columns)) {
            let (b0, lines) = lines.split_at(columns);
            let (b1, lines) = lines.split_at(columns);
            let (b2, b3) = lines.split_at(columns);
            for ((out, (b0, b1)), (b2, b3)) in out.iter_mut().zip(b0.iter().zip(b1)).zip(b2.iter().zip(b3)) {
                *out = *out + w * b0 + x * b1 + y * b2 + z * b3;
            }
        }
        for (value, line) in last.iter().zip(last_lines.chunks_exact(columns)) {
            out.iter_mut().zip(line).for_each(|(out, b)| *out += value * b);
        }
    }
}

/// Columns become rows.
pub(crate) fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; rows * columns];
    for (row, line) in values.chunks_exact(columns).enumerate() {
        for (column, value) in line.iter().enumerate() {
            out[column * rows + row] = *value;
        }
    }
    out
}

/// Sums of the columns of a matrix with that many columns.
pub(crate) fn column_sums(values: &[f32], columns: usize) -> Vec<f32> {
    let mut sums = vec![0.0; columns];
    for line in values.chunks_exact(columns) {
        sums.iter_mut().zip(line).for_each(|(sum, value)| *sum += value);
    }
    sums
}
