//! The launches. Arguments of the kernels are buffers only: numbers go with the plan.

use std::sync::Mutex;

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Device, Tensor};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};
use cubecl::client::Client;
use cubecl::ir::attributes::BufferIOAttr;
use cubecl::ir::{UIntKind, metadata::Info};
use cubecl::prelude::*;
use cubecl::server::{Handle, KernelArguments};
use cubecl::{CubeKernel, PrecompiledSource};

use super::plan::{Plan, Strides};
use super::source::{self, Element, HEAD_DIMS, Pass};
use crate::attention::{AttentionGradients, AttentionOps, Kept, Pattern};

/// Plans on the device: the layers of a step share theirs.
const PLANS: usize = 16;

/// Whether the kernels take tensors like `q` with heads of `head_dim`.
pub(in crate::attention) fn takes(q: &Tensor<2>, head_dim: usize) -> bool {
    element(q.dtype()).is_some() && HEAD_DIMS.contains(&head_dim) && is_cuda(&q.device())
}

/// Whether `device` is a CUDA device, but there is no kernel for heads of `head_dim`.
pub(in crate::attention) fn lacks(device: &Device, head_dim: usize) -> bool {
    is_cuda(device) && !HEAD_DIMS.contains(&head_dim)
}

fn is_cuda(device: &Device) -> bool {
    use burn::backend::DispatchDevice;
    let device = device.clone().without_autodiff();
    matches!(
        device.as_dispatch(),
        DispatchDevice::Cube(CubeDevice::Cuda(_))
    )
}

fn element(dtype: DType) -> Option<Element> {
    match dtype {
        DType::BF16 => Some(Element::Bf16),
        DType::F32 => Some(Element::F32),
        _ => None,
    }
}

impl AttentionOps for CubeBackend {
    fn fused_attention(
        q: CubeTensor,
        k: CubeTensor,
        v: CubeTensor,
        pattern: Pattern,
    ) -> CubeTensor {
        let (y, _) = Self::fused_attention_forward(q, k, v, pattern);
        y
    }
}

impl AttentionGradients for CubeBackend {
    fn fused_attention_forward(
        q: CubeTensor,
        k: CubeTensor,
        v: CubeTensor,
        pattern: Pattern,
    ) -> (CubeTensor, Kept<Self>) {
        let inputs = Inputs::new(q, k, v, pattern);
        let (y, lse) = inputs.forward();
        (y.clone(), Some([y, lse]))
    }

    fn fused_attention_backward(
        dy: CubeTensor,
        q: CubeTensor,
        k: CubeTensor,
        v: CubeTensor,
        kept: Kept<Self>,
        pattern: Pattern,
    ) -> [CubeTensor; 3] {
        let inputs = Inputs::new(q, k, v, pattern);
        let [y, lse] = kept.unwrap_or_else(|| inputs.forward().into());
        inputs.backward(dy, y, lse)
    }
}

struct Inputs {
    q: CubeTensor,
    k: CubeTensor,
    v: CubeTensor,
    pattern: Pattern,
    element: Element,
    rows: usize,
    heads: usize,
    kv_heads: usize,
}

impl Inputs {
    fn new(q: CubeTensor, k: CubeTensor, v: CubeTensor, pattern: Pattern) -> Self {
        let (rows, width) = size(&q);
        let heads = width / pattern.head_dim;
        let kv_heads = size(&k).1 / pattern.head_dim;
        Self {
            element: element(q.dtype).expect("the caller asked `takes`"),
            q: readable(q),
            k: readable(k),
            v: readable(v),
            pattern,
            rows,
            heads,
            kv_heads,
        }
    }

    /// The output, `[N, Hq D]`, and the logarithm to base 2 of each row's sum of exponentials, `[Hq, N]`.
    fn forward(&self) -> (CubeTensor, CubeTensor) {
        let y = self.room(
            [self.rows, self.heads * self.pattern.head_dim],
            self.q.dtype,
        );
        let lse = self.room([self.heads, self.rows], DType::F32);
        let strides = Strides {
            o: stride(&y),
            ..self.strides()
        };
        let read = [&self.q, &self.k, &self.v];
        self.launch(Pass::Forward, self.heads, &read, &[&y, &lse], strides);
        (y, lse)
    }

    /// The gradients of q, k and v.
    fn backward(&self, dy: CubeTensor, y: CubeTensor, lse: CubeTensor) -> [CubeTensor; 3] {
        let (dy, y) = (readable(dy), readable(y));
        let like = |x: &CubeTensor| self.room(size(x).into(), x.dtype);
        let (d_q, d_k, d_v) = (like(&self.q), like(&self.k), like(&self.v));
        let delta = self.room([self.heads, self.rows], DType::F32);
        let strides = Strides {
            o: stride(&y),
            d_o: stride(&dy),
            d_q: stride(&d_q),
            d_kv: stride(&d_k),
            ..self.strides()
        };
        let Self { q, k, v, .. } = self;
        let read = [q, k, v, &y, &dy, &lse];
        self.launch(
            Pass::BackwardQuery,
            self.heads,
            &read,
            &[&d_q, &delta],
            strides,
        );
        let read = [q, k, v, &dy, &lse, &delta];
        self.launch(
            Pass::BackwardKey,
            self.kv_heads,
            &read,
            &[&d_k, &d_v],
            strides,
        );
        [d_q, d_k, d_v]
    }

    fn strides(&self) -> Strides {
        Strides {
            q: stride(&self.q),
            k: stride(&self.k),
            v: stride(&self.v),
            ..Strides::default()
        }
    }

    fn room(&self, shape: [usize; 2], dtype: DType) -> CubeTensor {
        let (client, device) = (self.q.client.clone(), self.q.device.clone());
        empty_device_contiguous_dtype(client, device, shape.into(), dtype)
    }

    /// A block for each tile and head.
    fn launch(
        &self,
        pass: Pass,
        heads: usize,
        read: &[&CubeTensor],
        written: &[&CubeTensor],
        strides: Strides,
    ) {
        let group = self.heads / self.kv_heads;
        let plan = Plan::new(&self.pattern, group, self.element.block().1, strides);
        if plan.tiles == 0 {
            return;
        }
        let client = &self.q.client;
        let count = CubeCount::Static(heads as u32, plan.tiles, 1);
        let mut arguments = KernelArguments::new();
        for tensor in read {
            let binding = tensor.handle.clone().binding();
            arguments = arguments.with_buffer_io(binding, BufferIOAttr::ReadOnly);
        }
        for tensor in written {
            let binding = tensor.handle.clone().binding();
            arguments = arguments.with_buffer_io(binding, BufferIOAttr::WriteOnly);
        }
        let plan = on_device(plan, client).binding();
        let arguments = arguments.with_buffer_io(plan, BufferIOAttr::ReadOnly);
        let kernel = Kernel {
            pass,
            element: self.element,
            head_dim: self.pattern.head_dim,
        };
        client.launch(Box::new(kernel), count, arguments);
    }
}

/// Rows and columns.
fn size(x: &CubeTensor) -> (usize, usize) {
    let shape = x.shape();
    (shape[0], shape[1])
}

/// Elements from one row to the next.
fn stride(x: &CubeTensor) -> usize {
    x.meta.strides()[0]
}

/// The tensor as it lies if the kernels can read it so, a copy else: they copy 16 bytes at a time from
/// rows whose columns are adjacent.
fn readable(x: CubeTensor) -> CubeTensor {
    let bytes = x.dtype.size();
    let adjacent = x.meta.strides()[1] == 1;
    let aligned = x.handle.offset_start.unwrap_or(0).is_multiple_of(16)
        && (stride(&x) * bytes).is_multiple_of(16);
    match adjacent && aligned {
        true => x,
        false => into_contiguous(x),
    }
}

/// The plan's words in device memory; those of the last few calls are kept there.
fn on_device(plan: Plan, client: &Client) -> Handle {
    static KEPT: Mutex<Vec<(Vec<i32>, Handle)>> = Mutex::new(Vec::new());
    let service = client.service_id();
    let mut kept = KEPT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let found = kept
        .iter()
        .position(|(words, handle)| handle.service == service && *words == plan.words);
    let entry = match found {
        Some(at) => kept.remove(at),
        None => {
            let bytes: Vec<u8> = plan.words.iter().flat_map(|w| w.to_ne_bytes()).collect();
            let handle = client.create_from_slice(&bytes);
            (plan.words, handle)
        }
    };
    let handle = entry.1.clone();
    kept.truncate(PLANS - 1);
    kept.insert(0, entry);
    handle
}

/// One kernel of the text.
struct Kernel {
    pass: Pass,
    element: Element,
    head_dim: usize,
}

impl Kernel {
    fn dim(&self) -> CubeDim {
        CubeDim::new_1d(self.element.block().0)
    }
}

impl KernelMetadata for Kernel {
    fn id(&self) -> KernelId {
        // Compiled kernels are kept on disk by this: another text must not be taken for this one.
        let text = source::fingerprint();
        KernelId::new::<Self>().cube_dim(self.dim().0).info((
            self.pass,
            self.element,
            self.head_dim,
            text,
        ))
    }

    fn address_type(&self) -> ElemType {
        UIntKind::U32.into()
    }
}

impl CubeKernel for Kernel {
    /// Of no use to a kernel that comes as text, but for the block's size.
    fn define(&self) -> KernelDefinition {
        let settings = KernelSettings::new(self.dim().0, ExecutionMode::Checked, AddressType::U32);
        KernelDefinition {
            body: Scope::root(settings.clone()),
            settings,
            info: Info::default(),
        }
    }

    fn source(&self) -> Option<PrecompiledSource> {
        Some(PrecompiledSource {
            source: source::text(self.pass, self.element, self.head_dim),
            entrypoint_name: self.pass.entry().into(),
            lang: "cuda",
        })
    }
}
