//! The definitions.

use burn::tensor::{DType, Tensor};

use super::{Groups, Order};

pub(crate) fn spread(x: Tensor<2>, groups: &Groups) -> Tensor<2> {
    let rows = groups.row_indices(&x.device());
    x.select(0, rows)
}

pub(crate) fn collect(y: Tensor<2>, weights: Tensor<2>, groups: &Groups) -> Tensor<2> {
    let (rows, per_row, width) = (groups.rows(), groups.per_row(), y.dims()[1]);
    let places = groups.place_indices(&y.device());
    let copies: Tensor<3> = y.select(0, places).reshape([rows, per_row, width]);
    let weighted = copies * weights.reshape([rows, per_row, 1]);
    weighted.sum_dim(1).reshape([rows, width])
}

pub(crate) fn linear(x: Tensor<2>, weights: Tensor<3>, order: Order, groups: &Groups) -> Tensor<2> {
    let (device, outputs) = (x.device(), order.outputs(weights.dims()));
    let products = groups.filled().map(|(group, range)| {
        let weight = weights.clone().narrow(0, group, 1).squeeze_dim(0);
        let weight: Tensor<2> = match weight.dtype() {
            DType::F32 => weight,
            _ => weight.cast(DType::F32),
        };
        let rows = x.clone().slice([range]);
        rows.matmul(match order {
            Order::InOut => weight,
            Order::OutIn => weight.transpose(),
        })
    });
    let products: Vec<Tensor<2>> = products.collect();
    match products.is_empty() {
        true => Tensor::empty([0, outputs], &device),
        false => Tensor::cat(products, 0),
    }
}
