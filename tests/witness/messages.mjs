// The signed messages of tests/golden/messages.json by market.mjs. In: {claims: [fields], vouchers: [fields]}.
import { readFileSync } from "node:fs";
import { claimMessage, voucherMessage } from "./market.mjs";

const HEX = new Set([
  "program_id",
  "genesis_hash",
  "escrow",
  "market",
  "wallet",
  "node",
  "class_id",
  "terms_hash",
  "digest",
]);
const camel = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
const typed = (fields) =>
  Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [camel(name), HEX.has(name) ? Buffer.from(value, "hex") : BigInt(value)]),
  );

const { claims, vouchers } = JSON.parse(readFileSync(0, "utf8"));
process.stdout.write(
  JSON.stringify({
    claims: claims.map((fields) => claimMessage(typed(fields)).toString("hex")),
    vouchers: vouchers.map((fields) => voucherMessage(typed(fields)).toString("hex")),
  }),
);
