"""The message `tf.train.Example`, described here: the packages that have it take seconds to import.

    Example   1 features                          Features  1 feature: map from string to Feature
    Feature   one of 1 bytes_list, 2 float_list, 3 int64_list, each with 1 value, repeated
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "srum_jax"  # whose name is not part of what is stored


def _message_type() -> type:
    file = descriptor_pb2.FileDescriptorProto(name="srum_jax/tf_example.proto", package=_PACKAGE, syntax="proto3")

    def field(message, name: str, number: int, kind, *, repeated: bool = False, of: str = ""):
        label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
        type_name = f".{_PACKAGE}.{of}" if of else None
        return message.field.add(name=name, number=number, type=kind, label=label, type_name=type_name)

    feature = descriptor_pb2.DescriptorProto(name="Feature")
    feature.oneof_decl.add(name="kind")
    kinds = (("BytesList", _Field.TYPE_BYTES), ("FloatList", _Field.TYPE_FLOAT), ("Int64List", _Field.TYPE_INT64))
    for number, (name, kind) in enumerate(kinds, start=1):
        field(file.message_type.add(name=name), "value", 1, kind, repeated=True)
        entry = name.replace("List", "_list").lower()
        field(feature, entry, number, _Field.TYPE_MESSAGE, of=name).oneof_index = 0
    file.message_type.append(feature)
    features = file.message_type.add(name="Features")
    pair = features.nested_type.add(name="FeatureEntry")
    pair.options.map_entry = True
    field(pair, "key", 1, _Field.TYPE_STRING)
    field(pair, "value", 2, _Field.TYPE_MESSAGE, of="Feature")
    field(features, "feature", 1, _Field.TYPE_MESSAGE, repeated=True, of="Features.FeatureEntry")
    field(file.message_type.add(name="Example"), "features", 1, _Field.TYPE_MESSAGE, of="Features")
    pool = descriptor_pool.DescriptorPool()  # of its own: TensorFlow's messages, if they are there, are not touched
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Example"))


Example = _message_type()
