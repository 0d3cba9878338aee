"""Reading compiled programs: trips of loops, FLOPs, traffic and exchanges, by hand and against XLA's own count."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from srum_jax.aot.hlo_collectives import MeshOfChips, collectives, summary
from srum_jax.aot.hlo_costs import kernels, products
from srum_jax.aot.hlo_program import Program
from srum_jax.errors import Failure
from tests.models.packs import mesh_of

# As the TPU compiler writes it: trips of loops are not said, matrix products are convolutions.
TPU = """HloModule jit_step, is_scheduled=true

%fused_add (param_0.1: s32[]) -> s32[] {
  %param_0.1 = s32[]{:T(128)} parameter(0)
  %constant.9 = s32[]{:T(128)} constant(2)
  ROOT %add.9 = s32[]{:T(128)} add(%param_0.1, %constant.9)
}

%fused_product (param_0.2: bf16[8,16], param_1.2: bf16[5,16,4], param_2.2: s32[]) -> bf16[8,4] {
  %param_0.2 = bf16[8,16]{1,0:T(8,128)(2,1)} parameter(0)
  %param_1.2 = bf16[5,16,4]{2,1,0:T(8,128)(2,1)} parameter(1)
  %param_2.2 = s32[]{:T(128)} parameter(2)
  %zero = s32[]{:T(128)} constant(0)
  %slice = bf16[1,16,4]{2,1,0} dynamic-slice(%param_1.2, %param_2.2, %zero, %zero), dynamic_slice_sizes={1,16,4}
  %weight = bf16[16,4]{1,0} bitcast(%slice)
  ROOT %product = bf16[8,4]{1,0} convolution(%param_0.2, %weight), dim_labels=bf_io->bf, metadata={op_name="f/dot"}
}

%add.clone (x: bf16[], y: bf16[]) -> bf16[] {
  %x = bf16[]{:T(256)} parameter(0)
  %y = bf16[]{:T(256)} parameter(1)
  ROOT %sum = bf16[]{:T(256)} add(%x, %y)
}

%all-reduce-scatter.1 (input: bf16[16,4]) -> bf16[4,4] {
  %input = bf16[16,4]{1,0} parameter(0)
  %reduced = bf16[16,4]{1,0} all-reduce(%input), replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add.clone
  %index = s32[]{:T(128)} constant(0)
  ROOT %share = bf16[4,4]{1,0} dynamic-slice(%reduced, %index, %index), dynamic_slice_sizes={4,4}
}

%body (state: (s32[], bf16[8,16], bf16[5,16,4], bf16[4,4])) -> (s32[], bf16[8,16], bf16[5,16,4], bf16[4,4]) {
  %state = (s32[], bf16[8,16], bf16[5,16,4], /*index=3*/bf16[4,4]) parameter(0)
  %count = s32[]{:T(128)} get-tuple-element(%state), index=0
  %images = bf16[8,16]{1,0} get-tuple-element(%state), index=1
  %weights = bf16[5,16,4]{2,1,0} get-tuple-element(%state), index=2
  %next = s32[]{:T(128)} fusion(%count), kind=kLoop, calls=%fused_add
  %multiplied = bf16[8,4]{1,0} fusion(%images, %weights, %count), kind=kOutput, calls=%fused_product
  %whole = bf16[16,4]{1,0} all-gather(%multiplied), replica_groups=[2,4]<=[4,2]T(1,0), dimensions={0}
  %scattered = bf16[4,4]{1,0} fusion(%whole), kind=kCustom, calls=%all-reduce-scatter.1
  ROOT %out = (s32[], bf16[8,16], bf16[5,16,4], /*index=3*/bf16[4,4]) tuple(%next, %images, %weights, %scattered)
}

%condition (state.1: (s32[], bf16[8,16], bf16[5,16,4], bf16[4,4])) -> pred[] {
  %limit = s32[]{:T(128)} constant(11)
  %state.1 = (s32[], bf16[8,16], bf16[5,16,4], /*index=3*/bf16[4,4]) parameter(0)
  %count.1 = s32[]{:T(128)} get-tuple-element(%state.1), index=0
  ROOT %less = pred[]{:T(512)} compare(%count.1, %limit), direction=LT
}

ENTRY %main (a: bf16[8,16], b: bf16[5,16,4], c: bf16[4,4]) -> bf16[4,4] {
  %a = bf16[8,16]{1,0} parameter(0)
  %b = bf16[5,16,4]{2,1,0} parameter(1)
  %c = bf16[4,4]{1,0} parameter(2)
  %start = s32[]{:T(128)} constant(1)
  %begin = (s32[], bf16[8,16], bf16[5,16,4], /*index=3*/bf16[4,4]) tuple(%start, %a, %b, %c)
  %loop = (s32[], bf16[8,16], bf16[5,16,4], /*index=3*/bf16[4,4]) while(%begin), condition=%condition, body=%body
  %last = bf16[4,4]{1,0} get-tuple-element(%loop), index=3
  %sent = (bf16[4,4]{1,0}, bf16[4,4]{1,0}) all-reduce-start(%last), replica_groups=mesh['x'=2,'y'=4] {'x'}
  %attended = bf16[28,512,128]{2,1,0} custom-call(%a, %b), custom_call_target="tpu_custom_call"
  ROOT %received = bf16[4,4]{1,0} all-reduce-done(%sent)
}
"""


@pytest.fixture(scope="module")
def tpu():
    return Program(TPU)


def test_trips_are_read_from_a_counter_with_its_start_limit_and_step(tpu):
    assert tpu.executions["body"] == 5 and not tpu.unknown_loops  # 1, 3, 5, 7, 9
    assert tpu.executions["fused_product"] == 5 and tpu.in_loop("fused_product") and not tpu.in_loop("main")


@pytest.mark.parametrize("old, new", [
    ("direction=LT", "direction=NE"), ("add(%param_0.1", "multiply(%param_0.1"), ("constant(1)\n", "parameter(3)\n"),
])
def test_a_loop_that_cannot_be_read_is_named_and_counts_once(old, new):
    program = Program(TPU.replace(old, new))
    assert program.unknown_loops == ["loop"] and program.executions["body"] == 1


def test_known_trips_are_believed():
    known = TPU.replace("condition=%condition, body=%body",
                        'condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"7"}}')
    assert Program(known).executions["body"] == 7


def test_a_text_without_entry_is_refused():
    with pytest.raises(Failure, match="ENTRY"):
        Program("HloModule nothing")


def test_products_count_as_often_as_their_loop_turns(tpu):
    (product,) = products(tpu)
    assert product.flops == 5 * 2 * 8 * 16 * 4 and product.executions == 5 and product.where == "f/dot"


def test_kernels_are_listed_with_their_operands(tpu):
    (kernel,) = kernels(tpu)
    assert kernel.name == "attended" and kernel.operands == ((8, 16), (5, 16, 4)) and kernel.executions == 1


def test_exchanges_say_what_moves_over_which_chips_and_what_hides_it(tpu):
    found = {one.kind: one for one in collectives(tpu, MeshOfChips({"data": 2, "fsdp": 4}))}
    gather, scatter, reduce = found["all-gather"], found["reduce-scatter"], found["all-reduce"]
    assert len(found) == 3
    assert (gather.num_bytes, gather.group, gather.executions) == (128, 4, 5)
    assert gather.received_bytes == 128 * 3 / 4 and gather.in_loop and not gather.hidden
    assert gather.over == ("data", "fsdp")  # chips 0, 2, 4, 6
    assert (scatter.num_bytes, scatter.received_bytes, scatter.executions, scatter.over) == (128, 96, 5, ("fsdp",))
    assert not scatter.hidden
    assert (reduce.num_bytes, reduce.received_bytes, reduce.over) == (32, 2 * 32 / 2, ("data",))
    assert reduce.hidden and not reduce.in_loop


def test_an_exchange_with_nothing_between_start_and_end_is_not_hidden():
    early = "\n".join(line for line in TPU.splitlines() if "%attended" not in line)
    assert not any(one.hidden for one in collectives(Program(early), MeshOfChips({"data": 2, "fsdp": 4})))


def test_an_exchange_in_a_call_that_returns_early_is_hidden_by_what_is_computed_meanwhile():
    called = TPU.replace("ENTRY", """%wrapped (given: bf16[4,4]) -> bf16[16,4] {
  %given = bf16[4,4]{1,0} parameter(0)
  ROOT %fetched = bf16[16,4]{1,0} all-gather(%given), replica_groups={{0,1,2,3}}, dimensions={0}
}

ENTRY""")
    start = "  %early = ((bf16[4,4]), bf16[16,4], u32[]) async-start(%c), calls=%wrapped\n"
    done = "  %late = bf16[16,4]{1,0} async-done(%early)\n"
    kernel = "  %attended"
    beside, alone = (called.replace(kernel, text) for text in (start + kernel, start + done + kernel))
    for text, expected in ((beside.replace("  ROOT %received", done + "  ROOT %received"), True), (alone, False)):
        found = {one.name: one.hidden for one in collectives(Program(text), MeshOfChips({"data": 2, "fsdp": 4}))}
        assert found["fetched"] is expected


def test_an_exchange_in_one_fusion_with_a_product_is_hidden():
    gather = "  %inside = bf16[16,4]{1,0} all-gather(%weight), replica_groups={{0,1,2,3}}\n"
    fused = TPU.replace("  ROOT %product", f"{gather}  ROOT %product")
    assert {one.name: one.hidden for one in collectives(Program(fused), MeshOfChips({"data": 2, "fsdp": 4}))}["inside"]


@pytest.mark.parametrize("beside", [True, False])
def test_an_exchange_that_is_spread_over_fusions_counts_where_it_starts(beside):
    def fused(name, result):
        return f"""%{name} (given.{result}: bf16[4,4]) -> bf16[16,4] {{
  %given.{result} = bf16[4,4]{{1,0}} parameter(0)
  {"%square = bf16[4,4]{1,0} dot(%given.step, %given.step)" if name.startswith("async") and beside else ""}
  ROOT %{result} = bf16[16,4]{{1,0}} all-gather(%given.{result}), channel_id=7, replica_groups={{{{0,1,2,3}}}}
}}

"""
    computations = fused("first", "begin") + fused("async_collective_fusion.1", "step") + fused("last_of_it", "end")
    fusions = {"async-collective-start.3": "first", "fusion.8": "async_collective_fusion.1",
               "async-collective-done.3": "last_of_it"}
    one_array = ", output_to_operand_aliasing={{}: (0, {})}"
    calls = "".join(f"  %{name} = bf16[16,4]{{1,0}} fusion(%last), kind=kCustom, calls=%{called}"
                    f"{'' if called == 'first' else one_array}\n" for name, called in fusions.items())
    text = TPU.replace("ENTRY", f"{computations}ENTRY").replace("  %sent = ", f"{calls}  %sent = ")
    found = {one.name: one.hidden for one in collectives(Program(text), MeshOfChips({"data": 2, "fsdp": 4}))}
    assert found["begin"] is beside and "step" not in found and "end" not in found


def test_slices_are_the_outer_part_of_the_mesh(tpu):
    crosses = {one.kind: one.crosses_slices for one in collectives(tpu, MeshOfChips({"data": 2, "fsdp": 4}, 2))}
    assert crosses == {"all-gather": True, "reduce-scatter": False, "all-reduce": True}


@pytest.mark.parametrize(("pairs", "group", "over", "crosses", "received"), [
    ("{0,0},{1,2},{2,1}", 2, ("fsdp",), False, 32.0), ("{0,0},{1,2},{3,7}", 2, ("data", "fsdp"), True, 32.0),
    ("{0,0},{1,1}", 1, (), False, 0.0),
])
def test_a_permutation_is_judged_by_all_its_pairs(pairs, group, over, crosses, received):
    moved = f"  %moved = bf16[4,4]{{1,0}} collective-permute(%last), source_target_pairs={{{pairs}}}\n"
    found = {one.name: one for one in collectives(Program(TPU.replace("  %sent = ", f"{moved}  %sent = ")),
                                                  MeshOfChips({"data": 2, "fsdp": 4}, 2))}["moved"]
    assert (found.group, found.over, found.crosses_slices, found.received_bytes) == (group, over, crosses, received)


def through_the_host(kind, rendezvous="meet_0"):
    """A send to the host and its receive, as compilers write exchanges between slices."""
    marks = (f'frontend_attributes={{_xla_host_transfer_rendezvous="{rendezvous}",'
             f'_xla_megascale_target="{{1,2}}x{{0:3}}",_xla_megascale_transfer_type="{kind}"}}')
    begin = f"""  %token = token[] after-all()
  %coming = (bf16[4,4]{{1,0}}, u32[], token[]) recv(%token), is_host_transfer=true, {marks}
  %going = (bf16[4,4]{{1,0}}, u32[], token[]) send(%last, %token), is_host_transfer=true, {marks}
"""
    done = "  %come = (bf16[4,4]{1,0}, token[]) recv-done(%coming)\n  %gone = token[] send-done(%going)\n"
    return begin, done


@pytest.mark.parametrize(("asked", "kind", "size", "received"), [
    ("ALL_REDUCE", "all-reduce", 32, 32.0), ("REDUCE_SCATTER", "reduce-scatter", 32, 16.0),
    ("ALL_GATHER", "all-gather", 64, 32.0), ("ONE_TO_ONE", "collective-permute", 32, 32.0),
])
def test_what_the_host_is_asked_to_exchange_between_slices_counts(asked, kind, size, received):
    begin, done = through_the_host(asked)
    text = TPU.replace("  %sent = ", f"{begin}{done}  %sent = ")
    found = {one.name: one for one in collectives(Program(text), MeshOfChips({"data": 2, "fsdp": 4}, 2))}["going"]
    assert (found.kind, found.num_bytes, found.received_bytes, found.group) == (kind, size, received, 2)
    assert found.crosses_slices and found.over == ("data",) and found.executions == 1 and not found.hidden


def test_an_exchange_between_slices_is_hidden_by_what_is_computed_before_its_answer_is_needed():
    begin, done = through_the_host("ALL_REDUCE")
    text = TPU.replace("  %sent = ", f"{begin}  %sent = ").replace("  ROOT %received", f"{done}  ROOT %received")
    hidden = {one.name: one.hidden for one in collectives(Program(text), MeshOfChips({"data": 2, "fsdp": 4}, 2))}
    assert hidden["going"]
    alone = text.replace("custom-call(%a, %b)", "add(%a, %b)")
    hidden = {one.name: one.hidden for one in collectives(Program(alone), MeshOfChips({"data": 2, "fsdp": 4}, 2))}
    assert not hidden["going"]


def test_equal_exchanges_are_added_up(tpu):
    rows = summary(collectives(tpu, MeshOfChips({"data": 2, "fsdp": 4})))
    assert [(row["kind"], row["executions"], row["instructions"]) for row in rows][-1] == ("all-reduce", 1, 1)
    assert {row["executions"] for row in rows[:-1]} == {5}
    assert sum(row["received_bytes"] for row in rows) == 5 * 96 + 5 * 96 + 32


def compiled(function, *shapes):
    return jax.jit(function).lower(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)).compile()


def test_nested_loops_multiply():
    def nested(x, weights):
        def outer(x, _):
            return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0], None

        return jax.lax.scan(outer, x, None, length=3)[0]

    program = Program(compiled(nested, (32, 64), (5, 64, 64)).as_text())
    assert sum(product.flops for product in products(program)) == 3 * 5 * 2 * 32 * 64 * 64
    assert not program.unknown_loops


@pytest.mark.parametrize("strides, padding, groups", [
    ((1, 1), ((1, 1), (1, 1)), 1), ((2, 2), ((0, 1), (0, 1)), 1), ((1, 1), ((0, 0), (0, 0)), 2),
])
def test_a_convolution_costs_what_xla_counts(strides, padding, groups):
    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, feature_group_count=groups,
                                            dimension_numbers=("NHWC", "HWIO", "NHWC"))

    program = compiled(convolve, (2, 9, 9, 8), (3, 3, 8 // groups, 16))
    (product,) = products(Program(program.as_text()))
    assert product.flops == pytest.approx(program.cost_analysis()["flops"], rel=1e-6)


def test_gradients_of_a_loop_are_counted_on_a_mesh_and_their_exchanges_found():
    mesh = mesh_of(2, 4, 1, 1)
    rows, split = NamedSharding(mesh, PartitionSpec(("data", "fsdp"))), NamedSharding(mesh, PartitionSpec(None, "fsdp"))

    def loss(weights, x):
        return jnp.sum(jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0])

    arguments = (jax.ShapeDtypeStruct((6, 32, 32), jnp.float32, sharding=split),
                 jax.ShapeDtypeStruct((16, 32), jnp.float32, sharding=rows))
    with jax.set_mesh(mesh):
        text = jax.jit(jax.grad(loss), out_shardings=split).lower(*arguments).compile().as_text()
    program = Program(text)
    forward = 6 * 2 * (16 // 8) * 32 * 32
    # Backward: as much for the gradient of the weights, and, but for the first layer, of the inputs.
    assert sum(product.flops for product in products(program)) == pytest.approx(3 * forward, rel=0.1)
    found = collectives(program, MeshOfChips(dict(mesh.shape)))
    assert {"all-gather"} <= {one.kind for one in found}
    assert all(one.executions == 6 for one in found if one.in_loop)
    assert {one.over for one in found if one.kind == "all-gather"} == {("fsdp",)}


def test_groups_in_all_notations_are_read():
    chips = MeshOfChips({"data": 2, "fsdp": 2, "tensor": 2})
    line = "  %whole = bf16[16,4]{1,0} all-gather(%multiplied), replica_groups=[2,4]<=[4,2]T(1,0), dimensions={0}"
    for groups, over in (
        ("{{0,1},{2,3}}", ("tensor",)), ("{{0,2},{1,3}}", ("fsdp",)), ("[4,2]<=[2,4]T(1,0)", ("data",)),
        ("[1,8]<=[8]", ("data", "fsdp", "tensor")), ("mesh['a'=4,'b'=2] {'a'}", ("data", "fsdp")),
        ("mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'a'}", ("tensor",)), ("{}", ("data", "fsdp", "tensor")),
    ):
        changed = TPU.replace(line, line.replace("[2,4]<=[4,2]T(1,0)", groups))
        (gather,) = (one for one in collectives(Program(changed), chips) if one.kind == "all-gather")
        assert gather.over == over and gather.group == 2 ** len(over), groups
