// What codama makes of the IDL: a count of nodes by a visit of its tree, its validators' findings, and what it would
// tell a client of every instruction, account, event and error.
//
// In: {idl} as JSON on standard input. Names come back as codama has them, in camelCase.
import { readFileSync } from "node:fs";
import { rootNodeFromAnchor } from "@codama/nodes-from-anchor";
import { getValidationItemsVisitor } from "@codama/validators";
import {
  getByteSizeVisitor,
  getRecordLinkablesVisitor,
  interceptVisitor,
  LinkableDictionary,
  NodeStack,
  visit,
  voidVisitor,
} from "@codama/visitors";

const { idl } = JSON.parse(readFileSync(0, "utf8"));
const root = rootNodeFromAnchor(idl);
const { program } = root;

const counts = {};
visit(
  root,
  interceptVisitor(voidVisitor(), (node, next) => {
    counts[node.kind] = (counts[node.kind] ?? 0) + 1;
    return next(node);
  }),
);

const linkables = new LinkableDictionary();
visit(root, getRecordLinkablesVisitor(linkables));
// codama measures data; an event is its data
const sizes = (nodes, data = (node) => node) =>
  Object.fromEntries(
    nodes.map((node) => {
      const stack = new NodeStack([root, program]);
      return [node.name, visit(data(node), getByteSizeVisitor(linkables, { stack }))];
    }),
  );

const answer = {
  kind: root.kind,
  name: program.name,
  address: program.publicKey,
  version: program.version,
  counts,
  findings: visit(root, getValidationItemsVisitor()).map(({ level, message }) => `${level}: ${message}`),
  sizes: {
    accounts: sizes(program.accounts),
    events: sizes(program.events, (node) => node.data),
    instructions: sizes(program.instructions),
  },
  instructions: Object.fromEntries(
    program.instructions.map((node) => [
      node.name,
      {
        accounts: node.accounts.map((each) => [each.name, each.isSigner, each.isWritable, each.isOptional]),
        arguments: node.arguments.map((each) => each.name).filter((name) => name !== "discriminator"),
        absent: node.optionalAccountStrategy,
      },
    ]),
  ),
  errors: program.errors.map(({ code, name, message }) => [code, name, message]),
};
process.stdout.write(JSON.stringify(answer));
