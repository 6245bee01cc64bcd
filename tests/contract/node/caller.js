// Calls the platform through stubs made from the contract alone, and prints what came back as one JSON object.
"use strict";

const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const { target, key, includeDirs } = JSON.parse(process.argv[2]);
const files = ["experiments", "jobs", "predictions"].map((name) => `ml_platform/v1/${name}.proto`);
const options = { includeDirs, keepCase: true, longs: String, enums: String, defaults: true };
const { v1 } = grpc.loadPackageDefinition(loader.loadSync(files, options)).ml_platform;
const details = grpc.loadPackageDefinition(
  loader.loadSync(["google/rpc/status.proto", "google/rpc/error_details.proto"], options),
).google.rpc;

const stub = (Service) => new Service(target, grpc.credentials.createInsecure());
const withKey = () => {
  const metadata = new grpc.Metadata();
  metadata.set("authorization", `Bearer ${key}`);
  return metadata;
};

// The reply of a unary call, or what its error says.
const call = (client, method, request, metadata = withKey()) =>
  new Promise((resolve) => {
    const deadline = Date.now() + 30000;
    client[method](request, metadata, { deadline }, (error, reply) => resolve(error ? failure(error) : reply));
  });

// What an error says in google.rpc.Status, which travels in its trailing metadata.
const failure = (error) => {
  const packed = error.metadata.get("grpc-status-details-bin")[0];
  const status = details.Status.deserialize(packed);
  const info = status.details.find((detail) => detail.type_url.endsWith("/google.rpc.ErrorInfo"));
  return { code: error.code, message: error.details, info: details.ErrorInfo.deserialize(info.value) };
};

// Every message of a stream, and the status that it ended with.
const stream = (client, method, request) =>
  new Promise((resolve) => {
    const messages = [];
    const reading = client[method](request, withKey(), { deadline: Date.now() + 30000 });
    reading.on("data", (message) => messages.push(message));
    reading.on("error", () => {});
    reading.on("status", (status) => resolve({ messages, code: status.code }));
  });

const main = async () => {
  const experiments = stub(v1.ExperimentService);
  const request = { name: "from-node", tags: { team: "risk" }, request_id: "node-1" };
  const inputs = { fields: { user_id: { stringValue: "user_1" }, amount: { numberValue: 9.5 } } };
  return {
    created: await call(experiments, "CreateExperiment", request),
    repeated: await call(experiments, "CreateExperiment", request),
    nameless: await call(experiments, "CreateExperiment", { name: "" }),
    missing: await call(experiments, "GetExperiment", { name: "nothing" }),
    keyless: await call(experiments, "GetExperiment", { name: "from-node" }, new grpc.Metadata()),
    watched: await stream(stub(v1.JobService), "WatchJob", { job_id: "mlp-1" }),
    predicted: await call(stub(v1.PredictionService), "Predict", {
      model_name: "fraud",
      environment: "staging",
      inputs,
    }),
  };
};

main().then((results) => {
  process.stdout.write(JSON.stringify(results));
  process.exit(0);
});
