//! Which code of the assembler an operation has at each width and encoding.

use crate::target::native::wide::code::{UnaryOp, VecOp, Width};
use iced_x86::Code::{self as Op, *};

/// The codes of one operation: VEX for a scalar, 128 and 256 bits; EVEX for these and 512. Registers
/// above 15 and 512 bits need EVEX.
pub(super) struct Codes {
    vex: [Op; 3],
    evex: [Op; 4],
}

impl Codes {
    pub(super) fn of(&self, width: Width, evex: bool) -> Op {
        let at = match width {
            Width::Scalar => 0,
            Width::Xmm => 1,
            Width::Ymm => 2,
            Width::Zmm => 3,
        };
        if evex || at == 3 { self.evex[at] } else { self.vex[at] }
    }
}

macro_rules! codes {
    ($name:ident: [$($vex:ident),*] [$($evex:ident),*]) => {
        pub(super) const $name: Codes = Codes { vex: [$($vex),*], evex: [$($evex),*] };
    };
}

codes!(LOAD: [VEX_Vmovss_xmm_m32, VEX_Vmovups_xmm_xmmm128, VEX_Vmovups_ymm_ymmm256]
    [EVEX_Vmovss_xmm_k1z_m32, EVEX_Vmovups_xmm_k1z_xmmm128, EVEX_Vmovups_ymm_k1z_ymmm256, EVEX_Vmovups_zmm_k1z_zmmm512]);
codes!(STORE: [VEX_Vmovss_m32_xmm, VEX_Vmovups_xmmm128_xmm, VEX_Vmovups_ymmm256_ymm]
    [EVEX_Vmovss_m32_k1_xmm, EVEX_Vmovups_xmmm128_k1z_xmm, EVEX_Vmovups_ymmm256_k1z_ymm, EVEX_Vmovups_zmmm512_k1z_zmm]);
codes!(STREAM: [INVALID, VEX_Vmovntps_m128_xmm, VEX_Vmovntps_m256_ymm]
    [INVALID, EVEX_Vmovntps_m128_xmm, EVEX_Vmovntps_m256_ymm, EVEX_Vmovntps_m512_zmm]);
// A scalar moves with its 128 bits.
codes!(MOVE: [VEX_Vmovaps_xmm_xmmm128, VEX_Vmovaps_xmm_xmmm128, VEX_Vmovaps_ymm_ymmm256]
    [EVEX_Vmovaps_xmm_k1z_xmmm128, EVEX_Vmovaps_xmm_k1z_xmmm128, EVEX_Vmovaps_ymm_k1z_ymmm256, EVEX_Vmovaps_zmm_k1z_zmmm512]);
codes!(BROADCAST: [VEX_Vmovss_xmm_m32, VEX_Vbroadcastss_xmm_m32, VEX_Vbroadcastss_ymm_m32]
    [EVEX_Vmovss_xmm_k1z_m32, EVEX_Vbroadcastss_xmm_k1z_xmmm32, EVEX_Vbroadcastss_ymm_k1z_xmmm32, EVEX_Vbroadcastss_zmm_k1z_xmmm32]);
codes!(SPLAT: [VEX_Vmovaps_xmm_xmmm128, VEX_Vbroadcastss_xmm_xmm, VEX_Vbroadcastss_ymm_xmm]
    [EVEX_Vmovaps_xmm_k1z_xmmm128, EVEX_Vbroadcastss_xmm_k1z_xmmm32, EVEX_Vbroadcastss_ymm_k1z_xmmm32, EVEX_Vbroadcastss_zmm_k1z_xmmm32]);
codes!(SHUFFLE: [VEX_Vshufps_xmm_xmm_xmmm128_imm8, VEX_Vshufps_xmm_xmm_xmmm128_imm8, VEX_Vshufps_ymm_ymm_ymmm256_imm8]
    [EVEX_Vshufps_xmm_k1z_xmm_xmmm128b32_imm8, EVEX_Vshufps_xmm_k1z_xmm_xmmm128b32_imm8, EVEX_Vshufps_ymm_k1z_ymm_ymmm256b32_imm8, EVEX_Vshufps_zmm_k1z_zmm_zmmm512b32_imm8]);
codes!(MUL_ADD: [VEX_Vfmadd231ss_xmm_xmm_xmmm32, VEX_Vfmadd231ps_xmm_xmm_xmmm128, VEX_Vfmadd231ps_ymm_ymm_ymmm256]
    [EVEX_Vfmadd231ss_xmm_k1z_xmm_xmmm32_er, EVEX_Vfmadd231ps_xmm_k1z_xmm_xmmm128b32, EVEX_Vfmadd231ps_ymm_k1z_ymm_ymmm256b32, EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er]);
codes!(SQRT: [VEX_Vsqrtss_xmm_xmm_xmmm32, VEX_Vsqrtps_xmm_xmmm128, VEX_Vsqrtps_ymm_ymmm256]
    [EVEX_Vsqrtss_xmm_k1z_xmm_xmmm32_er, EVEX_Vsqrtps_xmm_k1z_xmmm128b32, EVEX_Vsqrtps_ymm_k1z_ymmm256b32, EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er]);
codes!(ROUND: [VEX_Vroundss_xmm_xmm_xmmm32_imm8, VEX_Vroundps_xmm_xmmm128_imm8, VEX_Vroundps_ymm_ymmm256_imm8]
    [EVEX_Vrndscaless_xmm_k1z_xmm_xmmm32_imm8_sae, EVEX_Vrndscaleps_xmm_k1z_xmmm128b32_imm8, EVEX_Vrndscaleps_ymm_k1z_ymmm256b32_imm8, EVEX_Vrndscaleps_zmm_k1z_zmmm512b32_imm8_sae]);
codes!(PERMUTE: [VEX_Vpermilps_xmm_xmmm128_imm8, VEX_Vpermilps_xmm_xmmm128_imm8, VEX_Vpermilps_ymm_ymmm256_imm8]
    [EVEX_Vpermilps_xmm_k1z_xmmm128b32_imm8, EVEX_Vpermilps_xmm_k1z_xmmm128b32_imm8, EVEX_Vpermilps_ymm_k1z_ymmm256b32_imm8, EVEX_Vpermilps_zmm_k1z_zmmm512b32_imm8]);
codes!(SHIFT_LEFT: [VEX_Vpslld_xmm_xmm_imm8, VEX_Vpslld_xmm_xmm_imm8, VEX_Vpslld_ymm_ymm_imm8]
    [EVEX_Vpslld_xmm_k1z_xmmm128b32_imm8, EVEX_Vpslld_xmm_k1z_xmmm128b32_imm8, EVEX_Vpslld_ymm_k1z_ymmm256b32_imm8, EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8]);
codes!(SHIFT_RIGHT: [VEX_Vpsrad_xmm_xmm_imm8, VEX_Vpsrad_xmm_xmm_imm8, VEX_Vpsrad_ymm_ymm_imm8]
    [EVEX_Vpsrad_xmm_k1z_xmmm128b32_imm8, EVEX_Vpsrad_xmm_k1z_xmmm128b32_imm8, EVEX_Vpsrad_ymm_k1z_ymmm256b32_imm8, EVEX_Vpsrad_zmm_k1z_zmmm512b32_imm8]);
// 256 bits have two upper halves in EVEX, by the element's width; here that of 128 bits.
codes!(HIGH: [INVALID, INVALID, VEX_Vextractf128_xmmm128_ymm_imm8]
    [INVALID, INVALID, EVEX_Vextractf32x4_xmmm128_k1z_ymm_imm8, EVEX_Vextractf64x4_ymmm256_k1z_zmm_imm8]);
// Chooses by the sign bits of the third.
codes!(BLEND: [VEX_Vblendvps_xmm_xmm_xmmm128_xmm, VEX_Vblendvps_xmm_xmm_xmmm128_xmm, VEX_Vblendvps_ymm_ymm_ymmm256_ymm]
    [INVALID, INVALID, INVALID, INVALID]);
// Any function of three bits.
codes!(TERNARY: [INVALID, INVALID, INVALID]
    [EVEX_Vpternlogd_xmm_k1z_xmm_xmmm128b32_imm8, EVEX_Vpternlogd_xmm_k1z_xmm_xmmm128b32_imm8, EVEX_Vpternlogd_ymm_k1z_ymm_ymmm256b32_imm8, EVEX_Vpternlogd_zmm_k1z_zmm_zmmm512b32_imm8]);
codes!(GATHER: [INVALID, VEX_Vgatherdps_xmm_vm32x_xmm, VEX_Vgatherdps_ymm_vm32y_ymm]
    [INVALID, EVEX_Vgatherdps_xmm_k1_vm32x, EVEX_Vgatherdps_ymm_k1_vm32y, EVEX_Vgatherdps_zmm_k1_vm32z]);
codes!(ALL_ONES: [INVALID, VEX_Vpcmpeqd_xmm_xmm_xmmm128, VEX_Vpcmpeqd_ymm_ymm_ymmm256]
    [INVALID, INVALID, INVALID, INVALID]);
// A mask register's bits as lanes.
codes!(LANES_OF_MASK: [INVALID, INVALID, INVALID]
    [EVEX_Vpmovm2d_xmm_kr, EVEX_Vpmovm2d_xmm_kr, EVEX_Vpmovm2d_ymm_kr, EVEX_Vpmovm2d_zmm_kr]);
codes!(ADD: [VEX_Vaddss_xmm_xmm_xmmm32, VEX_Vaddps_xmm_xmm_xmmm128, VEX_Vaddps_ymm_ymm_ymmm256]
    [EVEX_Vaddss_xmm_k1z_xmm_xmmm32_er, EVEX_Vaddps_xmm_k1z_xmm_xmmm128b32, EVEX_Vaddps_ymm_k1z_ymm_ymmm256b32, EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er]);
codes!(SUB: [VEX_Vsubss_xmm_xmm_xmmm32, VEX_Vsubps_xmm_xmm_xmmm128, VEX_Vsubps_ymm_ymm_ymmm256]
    [EVEX_Vsubss_xmm_k1z_xmm_xmmm32_er, EVEX_Vsubps_xmm_k1z_xmm_xmmm128b32, EVEX_Vsubps_ymm_k1z_ymm_ymmm256b32, EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er]);
codes!(MUL: [VEX_Vmulss_xmm_xmm_xmmm32, VEX_Vmulps_xmm_xmm_xmmm128, VEX_Vmulps_ymm_ymm_ymmm256]
    [EVEX_Vmulss_xmm_k1z_xmm_xmmm32_er, EVEX_Vmulps_xmm_k1z_xmm_xmmm128b32, EVEX_Vmulps_ymm_k1z_ymm_ymmm256b32, EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er]);
codes!(DIV: [VEX_Vdivss_xmm_xmm_xmmm32, VEX_Vdivps_xmm_xmm_xmmm128, VEX_Vdivps_ymm_ymm_ymmm256]
    [EVEX_Vdivss_xmm_k1z_xmm_xmmm32_er, EVEX_Vdivps_xmm_k1z_xmm_xmmm128b32, EVEX_Vdivps_ymm_k1z_ymm_ymmm256b32, EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er]);
codes!(MAX: [VEX_Vmaxss_xmm_xmm_xmmm32, VEX_Vmaxps_xmm_xmm_xmmm128, VEX_Vmaxps_ymm_ymm_ymmm256]
    [EVEX_Vmaxss_xmm_k1z_xmm_xmmm32_sae, EVEX_Vmaxps_xmm_k1z_xmm_xmmm128b32, EVEX_Vmaxps_ymm_k1z_ymm_ymmm256b32, EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae]);
codes!(MIN: [VEX_Vminss_xmm_xmm_xmmm32, VEX_Vminps_xmm_xmm_xmmm128, VEX_Vminps_ymm_ymm_ymmm256]
    [EVEX_Vminss_xmm_k1z_xmm_xmmm32_sae, EVEX_Vminps_xmm_k1z_xmm_xmmm128b32, EVEX_Vminps_ymm_k1z_ymm_ymmm256b32, EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae]);
codes!(AND: [VEX_Vandps_xmm_xmm_xmmm128, VEX_Vandps_xmm_xmm_xmmm128, VEX_Vandps_ymm_ymm_ymmm256]
    [EVEX_Vandps_xmm_k1z_xmm_xmmm128b32, EVEX_Vandps_xmm_k1z_xmm_xmmm128b32, EVEX_Vandps_ymm_k1z_ymm_ymmm256b32, EVEX_Vandps_zmm_k1z_zmm_zmmm512b32]);
codes!(OR: [VEX_Vorps_xmm_xmm_xmmm128, VEX_Vorps_xmm_xmm_xmmm128, VEX_Vorps_ymm_ymm_ymmm256]
    [EVEX_Vorps_xmm_k1z_xmm_xmmm128b32, EVEX_Vorps_xmm_k1z_xmm_xmmm128b32, EVEX_Vorps_ymm_k1z_ymm_ymmm256b32, EVEX_Vorps_zmm_k1z_zmm_zmmm512b32]);
codes!(XOR: [VEX_Vxorps_xmm_xmm_xmmm128, VEX_Vxorps_xmm_xmm_xmmm128, VEX_Vxorps_ymm_ymm_ymmm256]
    [EVEX_Vxorps_xmm_k1z_xmm_xmmm128b32, EVEX_Vxorps_xmm_k1z_xmm_xmmm128b32, EVEX_Vxorps_ymm_k1z_ymm_ymmm256b32, EVEX_Vxorps_zmm_k1z_zmm_zmmm512b32]);
codes!(ADD_INT: [VEX_Vpaddd_xmm_xmm_xmmm128, VEX_Vpaddd_xmm_xmm_xmmm128, VEX_Vpaddd_ymm_ymm_ymmm256]
    [EVEX_Vpaddd_xmm_k1z_xmm_xmmm128b32, EVEX_Vpaddd_xmm_k1z_xmm_xmmm128b32, EVEX_Vpaddd_ymm_k1z_ymm_ymmm256b32, EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32]);
codes!(SUB_INT: [VEX_Vpsubd_xmm_xmm_xmmm128, VEX_Vpsubd_xmm_xmm_xmmm128, VEX_Vpsubd_ymm_ymm_ymmm256]
    [EVEX_Vpsubd_xmm_k1z_xmm_xmmm128b32, EVEX_Vpsubd_xmm_k1z_xmm_xmmm128b32, EVEX_Vpsubd_ymm_k1z_ymm_ymmm256b32, EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32]);
// VEX sets lanes, EVEX a mask register.
codes!(COMPARE: [VEX_Vcmpss_xmm_xmm_xmmm32_imm8, VEX_Vcmpps_xmm_xmm_xmmm128_imm8, VEX_Vcmpps_ymm_ymm_ymmm256_imm8]
    [EVEX_Vcmpss_kr_k1_xmm_xmmm32_imm8_sae, EVEX_Vcmpps_kr_k1_xmm_xmmm128b32_imm8, EVEX_Vcmpps_kr_k1_ymm_ymmm256b32_imm8, EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae]);

/// The codes of an operation on two vectors.
pub(super) fn binary(op: VecOp) -> &'static Codes {
    match op {
        VecOp::Add => &ADD,
        VecOp::Sub => &SUB,
        VecOp::Mul => &MUL,
        VecOp::Div => &DIV,
        VecOp::Max => &MAX,
        VecOp::Min => &MIN,
        VecOp::And => &AND,
        VecOp::Or => &OR,
        VecOp::Xor => &XOR,
        VecOp::AddInt => &ADD_INT,
        VecOp::SubInt => &SUB_INT,
        VecOp::Compare(_) => &COMPARE,
    }
}

/// The codes of an operation on one vector, and its constant.
pub(super) fn unary(op: UnaryOp) -> (&'static Codes, Option<u8>) {
    match op {
        UnaryOp::Sqrt => (&SQRT, None),
        UnaryOp::Round(mode) => (&ROUND, Some(mode)),
        UnaryOp::ShiftLeft(by) => (&SHIFT_LEFT, Some(by)),
        UnaryOp::ShiftRight(by) => (&SHIFT_RIGHT, Some(by)),
        UnaryOp::High => (&HIGH, Some(1)),
        UnaryOp::Permute(order) => (&PERMUTE, Some(order)),
    }
}
