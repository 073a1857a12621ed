// Checks custom resources (stdin: a JSON array) against their definitions, from which these packages are generated: by
// the packages' validators, which know types, formats and required fields, and by the compiler of TypeScript, which knows
// the fields that do not exist. Prints what is wrong, and exits with 1 where something is.
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const PACKAGES = {
  "gateway.networking.k8s.io": "@kubernetes-models/gateway-api",
  "keda.sh": "@kubernetes-models/keda",
  "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
};
const FOLDER = fileURLToPath(new URL("node_modules/.objects/", import.meta.url));

const moduleOf = ({ apiVersion, kind }) => `${PACKAGES[apiVersion.split("/")[0]]}/${apiVersion}/${kind}`;

async function errorOf(object) {
  const { [object.kind]: Model } = await import(moduleOf(object));
  try {
    new Model(object).validate();
    return "";
  } catch (error) {
    return `${object.kind} ${object.metadata.name}: ${error.message}\n`;
  }
}

function compile(objects) {
  const lines = objects.flatMap((object, i) => [
    `import type { I${object.kind} as I${i} } from "${moduleOf(object)}";`,
    `export const object${i}: I${i} = ${JSON.stringify(object, null, 1)};`,
  ]);
  mkdirSync(FOLDER, { recursive: true });
  writeFileSync(`${FOLDER}objects.ts`, lines.join("\n"));
  const options = "--noEmit --strict --skipLibCheck --target es2022 --module nodenext --ignoreConfig".split(" ");
  const compiler = fileURLToPath(new URL("node_modules/typescript/bin/tsc", import.meta.url));
  const { stdout, stderr } = spawnSync(process.execPath, [compiler, ...options, `${FOLDER}objects.ts`], {
    encoding: "utf8",
  });
  return stdout + stderr;
}

const objects = JSON.parse(readFileSync(0, "utf8"));
const wrong = (await Promise.all(objects.map(errorOf))).join("") + compile(objects);
console.log(wrong);
process.exitCode = wrong ? 1 : 0;
