//! Convolutions and poolings.

use super::writer::{Made, Operand, Writer};

/// What a window is over each spatial axis.
struct Window {
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    /// The attributes, pads among them.
    attrs: Vec<String>,
}

impl Window {
    fn draw(g: &mut Writer, axes: usize, kernel: Vec<usize>, most_pads: usize) -> Window {
        let step = |g: &mut Writer, plain: usize, of: &[usize]| match g.chance(plain) {
            true => vec![1; axes],
            false if g.chance(70) => vec![g.pick(of); axes],
            false => (0..axes).map(|_| g.pick(of)).collect::<Vec<_>>(),
        };
        let strides = step(g, 50, &[2, 2, 3, 1]);
        let dilations = step(g, 80, &[2, 3, 1]);
        let mut attrs = Vec::new();
        note(&mut attrs, "strides", &strides, 1);
        note(&mut attrs, "dilations", &dilations, 1);
        match g.between(0, 9) {
            0..2 => {}
            2..6 => {
                let around: Vec<usize> = kernel.iter().map(|k| (k / 2).min(most_pads)).collect();
                note(&mut attrs, "pads", &around.repeat(2), 0);
            }
            6..8 => {
                let one = |k: &usize| g.between(0, (*k).min(most_pads + 1) - 1);
                let pads: Vec<usize> = kernel.repeat(2).iter().map(one).collect();
                note(&mut attrs, "pads", &pads, 0);
            }
            _ => {
                let auto = g.pick(&["SAME_UPPER", "SAME_LOWER", "VALID"]);
                attrs.push(format!("auto_pad = \"{auto}\""));
            }
        }
        Window { kernel, strides, dilations, attrs }
    }

    /// Sizes for the spatial axes that hold at least one window, so that the output has at most so
    /// many elements where the window moves by one.
    fn spatial(&self, g: &mut Writer, limit: usize) -> Vec<usize> {
        let axes = self.kernel.len();
        let most = [300, 66, 20][axes - 1];
        let mut sizes: Vec<usize> = (0..axes).map(|_| g.size().min(most)).collect();
        g.fit(&mut sizes, limit);
        for (s, (k, d)) in sizes.iter_mut().zip(self.kernel.iter().zip(&self.dilations)) {
            *s = (*s).max((k - 1) * d + 1);
        }
        sizes
    }
}

/// An attribute, where it says something.
fn note(attrs: &mut Vec<String>, name: &str, values: &[usize], default: usize) {
    if values.iter().any(|v| *v != default) {
        attrs.push(format!("{name} = {values:?}"));
    }
}

fn kernel(g: &mut Writer, axes: usize) -> Vec<usize> {
    match g.between(0, 9) {
        0..3 => vec![1; axes],
        3..6 => vec![3; axes],
        6 => vec![5; axes],
        7 if axes < 3 => vec![7; axes],
        _ => (0..axes).map(|_| g.between(1, 5)).collect(),
    }
}

/// Groups, and the channels of input and output.
fn channels(g: &mut Writer) -> (usize, usize, usize) {
    match g.between(0, 9) {
        0..6 => (1, g.channels(), g.channels()),
        6..8 => {
            let c = g.channels();
            (c, c, c * g.pick(&[1, 1, 1, 2, 3]))
        }
        _ => {
            let groups = g.pick(&[2, 3, 4, 8]);
            let [c, m] = [(); 2].map(|()| g.pick(&[1, 2, 3, 4, 5, 8, 9, 16]));
            (groups, groups * c, groups * m)
        }
    }
}

fn spatial_axes(g: &mut Writer) -> usize {
    g.pick(&[1, 1, 2, 2, 2, 2, 2, 3])
}

pub(super) fn conv(g: &mut Writer) -> Made {
    let axes = spatial_axes(g);
    let kernel = kernel(g, axes);
    let window = Window::draw(g, axes, kernel, usize::MAX - 1);
    let channels = channels(g);
    convolution(g, &window, channels)
}

/// Stride 1, no padding, one group: what a matrix product computes where the kernel is a point.
pub(super) fn plain_conv(g: &mut Writer) -> Made {
    let axes = spatial_axes(g);
    let kernel = if g.chance(60) { vec![1; axes] } else { vec![3; axes] };
    let ones = vec![1; axes];
    let window = Window { kernel, strides: ones.clone(), dilations: ones, attrs: Vec::new() };
    let channels = (1, g.channels(), g.channels());
    convolution(g, &window, channels)
}

/// So many channels that the sum may be computed another way (Winograd's), the batch alone free.
pub(super) fn three_by_three(g: &mut Writer) -> Made {
    let n = g.batch();
    let [c, m] = [(); 2].map(|()| g.pick(&[16, 17, 24, 32, 33, 48, 64, 65, 128]));
    let mut spatial = [(); 2].map(|()| g.size().clamp(3, 40));
    g.fit(&mut spatial, 12_000_000 / (n.max(1) * c * m * 9));
    let [h, w] = spatial.map(|s| s.max(3));
    let x = g.fixed_input(&[n, c, h, w], &[1, 2, 3]);
    let kernel = g.constant(&[m, c, 3, 3]);
    let attrs = match g.between(0, 3) {
        0 => String::new(),
        1 => "auto_pad = \"SAME_UPPER\"".to_owned(),
        2 => format!("pads = {:?}", [(); 4].map(|()| g.between(0, 2))),
        _ => "pads = [1, 1, 1, 1]".to_owned(),
    };
    let mut operands = vec![x, kernel];
    if g.chance(60) {
        operands.push(g.constant(&[m]));
    }
    let y = g.op("Conv", &operands.iter().collect::<Vec<_>>(), &attrs)?;
    behind(g, y)
}

fn convolution(g: &mut Writer, window: &Window, (groups, mut c, mut m): (usize, usize, usize)) -> Made {
    let work = g.work();
    let size: usize = window.kernel.iter().product();
    // A few positions must fit beside the channels.
    while groups == 1 && c * m * size * 8 > work {
        (c, m) = (g.channels(), g.channels());
    }
    let n = g.batch();
    let each = n.max(1) * (c / groups) * m * size;
    let spatial = window.spatial(g, work / each);
    let constant = g.chance(70);
    let x = [&[n, c], &spatial[..]].concat();
    let x = if constant { g.fixed_input(&x, &[1]) } else { g.input(&x) };
    let w = g.weights(constant, &[&[m, c / groups], &window.kernel[..]].concat());
    let mut attrs = window.attrs.clone();
    if groups > 1 {
        attrs.push(format!("group = {groups}"));
    }
    let mut operands = vec![x, w];
    if g.chance(60) {
        operands.push(g.weights(constant, &[m]));
    }
    let y = g.op("Conv", &operands.iter().collect::<Vec<_>>(), &attrs.join(", "))?;
    behind(g, y)
}

/// What stands behind a convolution.
fn behind(g: &mut Writer, y: Operand) -> Made {
    match g.between(0, 9) {
        0..5 => Ok(y),
        5 => g.op("Relu", &[&y], ""),
        9 => {
            let c = [y.shape[1]];
            let [scale, bias, mean] = [(); 3].map(|()| g.constant(&c));
            let variance = g.same(&c, 1.5);
            g.op("BatchNormalization", &[&y, &scale, &bias, &mean, &variance], "")
        }
        6 => {
            let (low, high) = (g.number(0.0), g.number(6.0));
            g.op("Clip", &[&y, &low, &high], "")
        }
        7 => {
            let s = g.op("Sigmoid", &[&y], "")?;
            g.op("Mul", &[&y, &s], "")
        }
        _ => {
            let other = g.input(&y.shape);
            let sum = g.op("Add", &[&y, &other], "")?;
            g.op("Relu", &[&sum], "")
        }
    }
}

pub(super) fn conv_transpose(g: &mut Writer) -> Made {
    let axes = spatial_axes(g);
    let kernel: Vec<usize> = (0..axes).map(|_| g.between(1, 4)).collect();
    let window = Window::draw(g, axes, kernel, 1);
    let groups = g.pick(&[1, 1, 1, 2, 3]);
    let [c, m] = [(); 2].map(|()| g.pick(&[1, 2, 3, 5, 8, 15, 16, 17, 32]));
    let n = g.batch();
    let each = n.max(1) * c * m * groups * window.kernel.iter().product::<usize>();
    // The evaluator takes an element's definition here, which is slow.
    let spatial = window.spatial(g, 60_000 / each);
    let constant = g.chance(60);
    let x = [&[n, c * groups], &spatial[..]].concat();
    let x = if constant { g.fixed_input(&x, &[1]) } else { g.input(&x) };
    let w = g.weights(constant, &[&[c * groups, m], &window.kernel[..]].concat());
    let mut attrs = window.attrs.clone();
    if groups > 1 {
        attrs.push(format!("group = {groups}"));
    }
    if g.chance(30) && !attrs.iter().any(|a| a.starts_with("auto_pad")) {
        let more: Vec<usize> = window.strides.iter().map(|s| g.between(0, s - 1)).collect();
        note(&mut attrs, "output_padding", &more, 0);
    }
    let mut operands = vec![x, w];
    if g.chance(50) {
        operands.push(g.weights(constant, &[m * groups]));
    }
    g.op("ConvTranspose", &operands.iter().collect::<Vec<_>>(), &attrs.join(", "))
}

pub(super) fn max_pool(g: &mut Writer) -> Made {
    pool(g, "MaxPool", true)
}

pub(super) fn average_pool(g: &mut Writer) -> Made {
    let counts = g.chance(40);
    let name = if counts { "AveragePool count_include_pad" } else { "AveragePool" };
    pool(g, name, false)
}

fn pool(g: &mut Writer, op: &str, dilated: bool) -> Made {
    let axes = spatial_axes(g);
    let kernel: Vec<usize> = match g.chance(60) {
        true => vec![g.pick(&[2, 2, 3, 3, 5]); axes],
        false => (0..axes).map(|_| g.between(1, 4)).collect(),
    };
    let window = Window::draw(g, axes, kernel, usize::MAX - 1);
    let (n, c) = (g.batch(), g.channels());
    let spatial = window.spatial(g, 20_000 / (n.max(1) * c));
    let x = g.input(&[&[n, c], &spatial[..]].concat());
    let mut attrs = window.attrs.clone();
    attrs.retain(|a| dilated || !a.starts_with("dilations"));
    attrs.push(format!("kernel_shape = {:?}", window.kernel));
    if g.chance(25) {
        attrs.push("ceil_mode = 1".to_owned());
    }
    let (op, flag) = op.split_once(' ').unwrap_or((op, ""));
    if !flag.is_empty() {
        attrs.push(format!("{flag} = 1"));
    }
    g.op(op, &[&x], &attrs.join(", "))
}
