//! A stack of matrices as it is held, on the CPU.

use burn::backend::flex::FlexTensor;
use burn::backend::ops::FloatTensorOps;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{DType, FloatDType, Shape};

use crate::simd;

pub(crate) struct DenseStack {
    tensor: FlexTensor,
    /// Matrices, rows, columns.
    pub(crate) shape: [usize; 3],
}

impl DenseStack {
    pub(crate) fn new(tensor: FlexTensor) -> Self {
        let shape = tensor.shape();
        Self {
            shape: [shape[0], shape[1], shape[2]],
            tensor: tensor.to_contiguous(),
        }
    }

    pub(crate) fn fetch(&self, group: usize) {
        let [_, rows, columns] = self.shape;
        let start = self.tensor.layout().start_offset() + group * rows * columns;
        if self.tensor.dtype() == DType::F32 {
            simd::fetch(&self.tensor.storage::<f32>()[start..start + rows * columns]);
        }
    }

    /// The numbers of one matrix in f32; they are copied into `room` if they are not held so.
    pub(crate) fn numbers<'a>(&'a self, group: usize, room: &'a mut Vec<f32>) -> &'a [f32] {
        let [_, rows, columns] = self.shape;
        let start = self.tensor.layout().start_offset() + group * rows * columns;
        let range = start..start + rows * columns;
        if self.tensor.dtype() == DType::F32 {
            return &self.tensor.storage::<f32>()[range];
        }
        let one = Flex::float_slice(self.tensor.clone(), &[(group..group + 1).into()]);
        let one = Flex::float_reshape(one, Shape::new([rows * columns]));
        let one = Flex::float_cast(one, FloatDType::F32).to_contiguous();
        room.clear();
        room.extend_from_slice(one.storage::<f32>());
        room
    }
}
