//! Copies between a GPU and the host that nobody waits for until they are needed.

use std::future::{Future, poll_fn};
use std::mem::take;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::CubeDevice;
use burn_cubecl::tensor::CubeTensor;
use cubecl::bytes::Bytes;
use cubecl::future::block_on;
use cubecl::prelude::*;
use cubecl::server::{Handle, ServerError};

use crate::cube::{contiguous, primitive, tensor};

/// A matrix in the host's memory, or on its way there.
pub(super) struct Offloaded {
    copy: Copy,
    client: Client,
    device: CubeDevice,
    shape: Shape,
    dtype: DType,
}

enum Copy {
    /// Has been asked for; until it is awaited the GPU keeps its own.
    OnTheWay(Pin<Box<Copying>>),
    /// In pinned memory, if there is enough.
    Arrived(Result<Vec<Bytes>, ServerError>),
}

type Copying = dyn Future<Output = Result<Vec<Bytes>, ServerError>> + Send;

impl Offloaded {
    pub(super) fn new(x: Tensor<2>) -> Self {
        let x = contiguous(primitive(x));
        Self {
            copy: Copy::OnTheWay(asked(x.client.clone(), x.handle.clone())),
            shape: x.shape(),
            dtype: x.dtype,
            client: x.client,
            device: x.device,
        }
    }

    /// Waits for the copy, so that the GPU can have its memory back.
    pub(super) fn settle(&mut self) {
        if let Copy::OnTheWay(copying) = &mut self.copy {
            self.copy = Copy::Arrived(block_on(copying));
        }
    }

    /// On the device again: asked for, not waited for.
    pub(super) fn restored(mut self) -> Result<Tensor<2>, String> {
        self.settle();
        let Copy::Arrived(arrived) = self.copy else {
            unreachable!("it was settled");
        };
        let mut arrived = arrived.map_err(|error| error.to_string())?;
        let bytes = arrived.pop().expect("one matrix was read");
        let handle = self.client.create(bytes);
        let Self {
            client,
            device,
            shape,
            dtype,
            ..
        } = self;
        Ok(tensor(CubeTensor::new_contiguous(
            client, device, shape, handle, dtype,
        )))
    }
}

/// A copy to the host that has been asked for. CubeCL's future borrows its client, so both live in one;
/// it is run up to the point where it would wait.
fn asked(client: Client, handle: Handle) -> Pin<Box<Copying>> {
    let mut copying: Pin<Box<Copying>> = Box::pin(async move {
        let copying = client.read_async(vec![handle]);
        let mut paused = true;
        poll_fn(|_| match take(&mut paused) {
            true => Poll::Pending,
            false => Poll::Ready(()),
        })
        .await;
        copying.await
    });
    let first = copying
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    assert!(first.is_pending(), "it pauses once");
    copying
}
