// Encodes and decodes the cases of tests/witness/test_coders.py with two coders of others: @coral-xyz/anchor's
// BorshCoder on the IDL, and codama's codecs on the tree that its own reading of the IDL gives.
//
// In:  {idl, cases: [{kind: "instructions" | "accounts" | "events", name, value, bytes}]} as JSON on standard input.
// Out: [{anchor: {bytes, value}, codama: {bytes, value}}] in the cases' order. Numbers of any width are decimal text,
// keys base58, byte arrays hexadecimal.
import { readFileSync } from "node:fs";
import { BN, BorshCoder, web3 } from "@coral-xyz/anchor";
import { getNodeCodec } from "@codama/dynamic-codecs";
import { rootNodeFromAnchor } from "@codama/nodes-from-anchor";

const { idl, cases } = JSON.parse(readFileSync(0, "utf8"));
const fieldsOf = {
  instructions: (name) => find(idl.instructions, name).args,
  accounts: (name) => find(idl.types, name).type.fields,
  events: (name) => find(idl.types, name).type.fields,
};

function find(entries, name) {
  const found = entries.find((entry) => entry.name === name);
  if (found === undefined) throw new Error(`${name} is not in the IDL`);
  return found;
}

// A record of the plain form as `leaf` gives its values; names by `rename`.
function made(fields, value, leaf, rename) {
  const given = Object.keys(value);
  if (given.length !== fields.length) throw new Error(`fields ${given}, wanted ${fields.map((field) => field.name)}`);
  return Object.fromEntries(
    fields.map(({ name, type }) => [rename(name), madeOf(type, value[name], leaf, rename)]),
  );
}

function madeOf(type, value, leaf, rename) {
  if (type.defined) return made(find(idl.types, type.defined.name).type.fields, value, leaf, rename);
  if (type.array && type.array[0] !== "u8") return value.map((item) => madeOf(type.array[0], item, leaf, rename));
  return leaf(type, value);
}

const anchor = {
  coder: new BorshCoder(idl),

  leaf(type, value) {
    if (type === "pubkey") return new web3.PublicKey(value);
    if (type === "bool") return value;
    if (type.array) return [...Buffer.from(value, "hex")];
    return ["u64", "i64", "u128"].includes(type) ? new BN(value, 10) : Number(value);
  },

  plain(value) {
    if (value instanceof web3.PublicKey) return value.toBase58();
    if (BN.isBN(value)) return value.toString(10);
    if (typeof value === "number") return String(value);
    if (typeof value === "boolean") return value;
    if (Array.isArray(value)) {
      return typeof value[0] === "number" ? Buffer.from(value).toString("hex") : value.map(anchor.plain);
    }
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, anchor.plain(item)]));
  },

  async encode(kind, name, value) {
    const content = made(fieldsOf[kind](name), value, anchor.leaf, (field) => field);
    if (kind === "instructions") return anchor.coder.instruction.encode(name, content);
    if (kind === "accounts") return anchor.coder.accounts.encode(name, content);
    // programs emit events, clients don't: there is only the type's coder
    const { discriminator } = find(idl.events, name);
    return Buffer.concat([Buffer.from(discriminator), anchor.coder.types.encode(name, content)]);
  },

  decode(kind, name, data) {
    const decoded = {
      instructions: () => anchor.coder.instruction.decode(data),
      accounts: () => ({ name, data: anchor.coder.accounts.decode(name, data) }),
      events: () => anchor.coder.events.decode(data.toString("base64")),
    }[kind]();
    if (decoded?.name !== name) throw new Error(`read as ${decoded?.name}`);
    return anchor.plain(decoded.data);
  },
};

const camel = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
const snake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

const codama = {
  root: rootNodeFromAnchor(idl),

  codecs: new Map(),

  // Each is made once: that walks the whole tree.
  codec(kind, name) {
    const { program } = codama.root;
    const key = `${kind} ${name}`;
    if (!codama.codecs.has(key)) {
      const node = find(program[kind], camel(name[0].toLowerCase() + name.slice(1)));
      codama.codecs.set(key, { node, codec: getNodeCodec([codama.root, program, node], { bytesEncoding: "base16" }) });
    }
    return codama.codecs.get(key);
  },

  leaf(type, value) {
    if (type === "pubkey" || type === "bool") return value;
    if (type.array) return ["base16", value];
    return ["u64", "i64", "u128"].includes(type) ? BigInt(value) : Number(value);
  },

  plain(value) {
    if (typeof value === "bigint" || typeof value === "number") return String(value);
    if (typeof value === "boolean" || typeof value === "string") return value;
    if (Array.isArray(value)) return value[0] === "base16" ? value[1] : value.map(codama.plain);
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [snake(name), codama.plain(item)]));
  },

  encode(kind, name, value) {
    const { node, codec } = codama.codec(kind, name);
    const content = made(fieldsOf[kind](name), value, codama.leaf, camel);
    return Buffer.from(codec.encode({ ...codama.head(kind, node), ...content }));
  },

  decode(kind, name, data) {
    const { node, codec } = codama.codec(kind, name);
    const { discriminator, ...content } = codec.decode(data);
    if (kind !== "events" && discriminator[1] !== codama.head(kind, node).discriminator[1]) throw new Error("another");
    return codama.plain(content);
  },

  // Codama's clients fill the discriminator in; its bare codecs take it as a field (an event's is a hidden prefix).
  head(kind, node) {
    if (kind === "events") return {};
    const fields = kind === "accounts" ? node.data.fields : node.arguments;
    const { encoding, data } = find(fields, "discriminator").defaultValue;
    return { discriminator: [encoding, data] };
  },
};

const answers = [];
for (const { kind, name, value, bytes } of cases) {
  const data = Buffer.from(bytes, "hex");
  const answer = {};
  for (const [coder, { encode, decode }] of Object.entries({ anchor, codama })) {
    try {
      answer[coder] = { bytes: (await encode(kind, name, value)).toString("hex"), value: decode(kind, name, data) };
    } catch (error) {
      throw new Error(`${coder}: ${kind} ${name}`, { cause: error });
    }
  }
  answers.push(answer);
}
process.stdout.write(JSON.stringify(answers));
