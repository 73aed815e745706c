use burn::tensor::{DType, Device, Distribution};

use super::*;
use crate::grouped::{Order, reference};
use crate::nf4::{Code, Nf4Matrix, quantize};
use crate::twins::{agree, groups, tracked};

/// Rows, choices of each, experts, d, I.
const SIZES: [[usize; 5]; 5] = [
    [1, 1, 1, 1, 1],
    [5, 2, 7, 12, 10],
    [40, 3, 4, 33, 18],
    [130, 8, 128, 20, 24],
    // More work than one task has.
    [300, 4, 6, 64, 40],
];

fn stored(order: Order, count: usize, inputs: usize, outputs: usize) -> [usize; 3] {
    match order {
        Order::InOut => [count, inputs, outputs],
        Order::OutIn => [count, outputs, inputs],
    }
}

fn dense(order: Order, shape: [usize; 3], dtype: DType) -> Stack {
    let device = Device::flex();
    let scale = 1.0 / (order.inputs(shape) as f64).sqrt();
    let numbers = Tensor::<3>::random(shape, Distribution::Normal(0.0, scale), &device);
    Stack::Dense(numbers.cast(dtype), order)
}

fn packed(order: Order, shape: [usize; 3], double: bool) -> Stack {
    let [count, rows, columns] = shape;
    let n = count * rows * columns;
    let values: Vec<f32> = (0..n).map(|i| (i as f32 * 0.713).sin() * 0.3).collect();
    let packed = quantize(&values, double).expect("finite");
    let shape = [count * rows, columns];
    Stack::Nf4(
        Nf4Matrix::new(packed, &Code::default(), shape, &Device::flex()),
        order,
    )
}

/// Of rows and weights.
fn experts_of(
    x: &[Tensor<2>],
    gate_up: &Stack,
    down: &Stack,
    groups: &Arc<Groups>,
    wanted: Wanted,
) -> Tensor<2> {
    experts(x[0].clone(), x[1].clone(), gate_up, down, groups, wanted)
}

/// In plain tensor operations, with matrices that were made dense one by one.
fn definition(
    x: Tensor<2>,
    weights: Tensor<2>,
    gate_up: &Stack,
    down: &Stack,
    groups: &Arc<Groups>,
) -> Tensor<2> {
    let count = groups.count();
    let all = |stack: &Stack| {
        let each = (0..count).map(|expert| stack.matrix(expert, count).unsqueeze_dim::<3>(0));
        Tensor::cat(each.collect(), 0)
    };
    let product = |x, stack| reference::linear(x, all(stack), Order::InOut, groups);
    let gate_up = product(reference::spread(x, groups), gate_up);
    let [gate, up] = gate_up.chunk(2, 1).try_into().expect("two halves");
    let hidden = activation::reference::swiglu(gate, up);
    reference::collect(product(hidden, down), weights, groups)
}

#[test]
fn one_operation_agrees_with_the_definition_and_with_its_steps() {
    for [rows, per_row, count, d, width] in SIZES {
        let groups = groups(rows, per_row, count);
        let (x, weights) = (tracked([rows, d]), tracked([rows, per_row]));
        for order in [Order::InOut, Order::OutIn] {
            let up_shape = stored(order, count, d, 2 * width);
            let down_shape = stored(order, count, width, d);
            for (gate_up, down) in [
                (
                    dense(order, up_shape, DType::F32),
                    dense(order, down_shape, DType::F32),
                ),
                (
                    dense(order, up_shape, DType::BF16),
                    dense(order, down_shape, DType::F16),
                ),
                (
                    packed(order, up_shape, false),
                    packed(order, down_shape, true),
                ),
            ] {
                let one = |x: &[Tensor<2>]| experts_of(x, &gate_up, &down, &groups, Wanted::Values);
                agree(&[&x, &weights], 5e-4, |x| {
                    let (rows, weights) = (x[0].clone(), x[1].clone());
                    let slow = definition(rows, weights, &gate_up, &down, &groups);
                    (one(x), slow)
                });
                agree(&[&x, &weights], 5e-4, |x| {
                    let (rows, weights) = (x[0].clone(), x[1].clone());
                    (one(x), in_steps(rows, weights, &gate_up, &down, &groups))
                });
                // Whoever wants gradients only gets the same ones.
                let gradients = [Wanted::Values, Wanted::Gradients].map(|wanted| {
                    let inputs = [x.clone(), weights.clone()];
                    let y = experts_of(&inputs, &gate_up, &down, &groups, wanted);
                    let dy = Tensor::<2>::ones([rows, d], &Device::flex()) * 0.3;
                    let mut graph = (y * dy.autodiff()).sum().backward();
                    inputs.map(|x| x.grad_remove(&mut graph).expect("a leaf").into_data())
                });
                assert_eq!(gradients[0], gradients[1]);
                // Without a tape nothing is kept, and the numbers are the same.
                let plain = [x.clone().inner(), weights.clone().inner()];
                let tracked = one(&[x.clone(), weights.clone()]).inner().into_data();
                assert_eq!(one(&plain).into_data(), tracked);
            }
        }
    }
}

#[test]
fn the_same_bits_whatever_the_threads() {
    let [rows, per_row, count, d, width] = [300, 4, 6, 64, 40];
    let groups = groups(rows, per_row, count);
    let order = Order::InOut;
    let gate_up = dense(order, stored(order, count, d, 2 * width), DType::F32);
    let down = dense(order, stored(order, count, width, d), DType::F32);
    let (x, weights) = (tracked([rows, d]), tracked([rows, per_row]));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("threads can be started").install(|| {
            let y = experts_of(
                &[x.clone(), weights.clone()],
                &gate_up,
                &down,
                &groups,
                Wanted::Values,
            );
            let mut gradients = y.clone().sum().backward();
            let of = |x: &Tensor<2>, gradients: &mut _| {
                x.grad_remove(gradients).expect("a leaf").into_data()
            };
            let d_x = of(&x, &mut gradients);
            [y.into_data(), d_x, of(&weights, &mut gradients)]
        })
    };
    let one = run(1);
    assert!((2..6).all(|threads| run(threads) == one));
}

#[test]
fn no_rows_give_no_rows() {
    let groups = groups(0, 2, 3);
    let order = Order::OutIn;
    let gate_up = dense(order, stored(order, 3, 4, 6), DType::F32);
    let down = dense(order, stored(order, 3, 3, 4), DType::F32);
    let device = Device::flex();
    let (x, weights) = (
        Tensor::zeros([0, 4], &device),
        Tensor::zeros([0, 2], &device),
    );
    let y = experts_of(&[x, weights], &gate_up, &down, &groups, Wanted::Values);
    assert_eq!(y.dims(), [0, 4]);
}
