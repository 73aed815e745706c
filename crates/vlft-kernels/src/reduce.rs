//! Sums that come out the same every time.

use burn::tensor::Tensor;

/// Sum of squares, rows on the device and the column of row sums in f64 on the host.
///
/// A full-tensor `sum()` on flex is a parallel reduction without a fixed order from 4 Mi elements
/// on; exact resume needs the same bits each time, and a row sum is sequential.
pub fn sum_of_squares(x: Tensor<2>) -> f64 {
    let rows = (x.clone() * x).sum_dim(1).into_data();
    rows.iter::<f32>().map(f64::from).sum()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn squares_add_up() {
        let x = Tensor::<2>::from_data(
            TensorData::new(vec![1f32, -2.0, 3.0, 4.0, 0.0, 0.5], [2, 3]),
            &Device::flex(),
        );
        assert_eq!(sum_of_squares(x), 30.25);
    }
}
