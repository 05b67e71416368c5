/**
 * A small client of the decision API (OpenID AuthZEN Authorization API 1.0) for applications that enforce policy themselves.
 *
 * An error is no permit, half an answer is none, and a permit under an obligation that is not applied is none either.
 */

/** Properties of an entity or an action, as JSON. */
export type Properties = Readonly<Record<string, unknown>>;

/** A subject or resource. */
export interface Entity {
  readonly type: string;
  readonly id: string;
  readonly properties?: Properties;
}

/** May this subject do this to that resource? */
export interface Question {
  readonly subject: Entity;
  readonly action: { readonly name: string; readonly properties?: Properties };
  readonly resource: Entity;
  readonly context?: Properties;
}

/** There is no answer. That is no permit. */
export class DecisionError extends Error {
  override readonly name: string = "DecisionError";
}

/** The decision point could not be reached, or not in time. */
export class Unreachable extends DecisionError {
  override readonly name = "Unreachable";
}

/** What came back is not an answer of the specification. */
export class ForeignAnswer extends DecisionError {
  override readonly name = "ForeignAnswer";
}

/** The decision point does not answer: the question is malformed, the key is not good, or policy does not let it ask. */
export class Refused extends DecisionError {
  override readonly name = "Refused";

  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(`${code} (HTTP ${status}): ${message}`);
  }
}

/** What must be done for an answer to stand (AuthZEN obligations profile). */
export class Obligation {
  constructor(
    readonly id: string,
    readonly type: string,
    readonly properties: Properties,
  ) {}

  /** The obligation in Bartizan's own words, where it is of the kind `kind` (`redact`, `cap` …). */
  own(kind: string): Properties | undefined {
    const own = this.properties["obligation"];
    const ours = this.type === "custom" && this.properties["vendor"] === "bartizan";
    return ours && isObject(own) && own["kind"] === kind ? own : undefined;
  }
}

/** What was decided. To be let through, ask {@link Answer.permits}: the object itself is true of every answer. */
export class Answer {
  readonly #decision: boolean;

  constructor(
    decision: boolean,
    readonly obligations: readonly Obligation[],
    /** Why not: reason codes, strongest first. */
    readonly reasons: readonly string[],
  ) {
    this.#decision = decision;
  }

  /**
   * Whether it may happen, where `apply` applies an obligation and says with `true` that it did. Every obligation is applied that can
   * be, also one that stands beside another which cannot. Without `apply` none is. What `apply` throws is a no.
   */
  permits(apply?: (obligation: Obligation) => boolean): boolean {
    const done = this.obligations.map((one) => {
      try {
        return apply !== undefined && apply(one) === true;
      } catch {
        return false;
      }
    });
    return this.#decision && done.every(Boolean);
  }
}

/** How a client asks. */
export interface Options {
  /** The address of the data plane, such as `https://gateway.example.com`. */
  readonly base: string;
  /** The key of a workload that may ask. */
  readonly key: string;
  /** Milliseconds that an answer may take. */
  readonly timeoutMs?: number;
  /** In the place of the global `fetch`. */
  readonly fetch?: typeof fetch;
}

/** The longest answer that is read, in characters. */
const ANSWER_MAX = 16 * 1024 * 1024;

/** Asks a decision point. Nothing is asked twice: what is not answered is not permitted. */
export class Client {
  readonly #base: string;
  readonly #key: string;
  readonly #timeoutMs: number;
  readonly #fetch: typeof fetch;

  /** @throws TypeError when `base` is no address. */
  constructor(options: Options) {
    const url = new URL(options.base);
    if (!["http:", "https:"].includes(url.protocol) || url.username || url.search || url.hash) {
      throw new TypeError(`\`${options.base}\` is not an address such as \`https://gateway.example.com\``);
    }
    this.#base = options.base.replace(/\/+$/, "");
    this.#key = options.key;
    this.#timeoutMs = options.timeoutMs ?? 5000;
    this.#fetch = options.fetch ?? fetch;
  }

  /**
   * Asks one question.
   * @throws DecisionError when there is no answer.
   */
  async evaluate(question: Question): Promise<Answer> {
    return readAnswer(await this.#post("/access/v1/evaluation", question));
  }

  /**
   * Asks several questions at once; the answers stand in their order.
   * @throws DecisionError when there is no answer to each.
   */
  async evaluateAll(questions: readonly Question[]): Promise<Answer[]> {
    if (questions.length === 0) return [];
    const told = await this.#post("/access/v1/evaluations", { evaluations: questions });
    const answers = isObject(told) ? told["evaluations"] : undefined;
    if (!Array.isArray(answers) || answers.length !== questions.length) {
      throw new ForeignAnswer("there are not as many answers as questions");
    }
    return answers.map(readAnswer);
  }

  async #post(path: string, body: unknown): Promise<unknown> {
    let status: number;
    let text: string;
    try {
      const answer = await this.#fetch(this.#base + path, {
        method: "POST",
        headers: { authorization: `Bearer ${this.#key}`, "content-type": "application/json" },
        body: JSON.stringify(body),
        // The key goes nowhere else.
        redirect: "error",
        signal: AbortSignal.timeout(this.#timeoutMs),
      });
      status = answer.status;
      text = await answer.text();
    } catch (error) {
      throw new Unreachable(`the decision point at ${this.#base} does not answer`, { cause: error });
    }
    let value: unknown;
    try {
      value = text.length > ANSWER_MAX ? undefined : JSON.parse(text);
    } catch {
      value = undefined;
    }
    if (status !== 200) {
      const told = isObject(value) && isObject(value["error"]) ? value["error"] : {};
      throw new Refused(status, String(told["code"] ?? "unknown"), String(told["message"] ?? "the decision point refused to answer"));
    }
    if (value === undefined) throw new ForeignAnswer("the answer is not JSON");
    return value;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function readAnswer(value: unknown): Answer {
  if (!isObject(value) || typeof value["decision"] !== "boolean") throw new ForeignAnswer("the answer has no decision");
  const context = value["context"] ?? {};
  if (!isObject(context)) throw new ForeignAnswer("the context is not an object");
  const obligations = context["obligations"] ?? [];
  const reasons = context["reasons"] ?? [];
  if (!Array.isArray(obligations) || !Array.isArray(reasons)) throw new ForeignAnswer("obligations and reasons are lists");
  return new Answer(value["decision"], obligations.map(readObligation), reasons.map(String));
}

function readObligation(value: unknown): Obligation {
  if (!isObject(value) || typeof value["id"] !== "string" || typeof value["type"] !== "string") {
    throw new ForeignAnswer("an obligation has an id and a type");
  }
  const properties = value["properties"] ?? {};
  if (!isObject(properties)) throw new ForeignAnswer("the properties of an obligation are an object");
  return new Obligation(value["id"], value["type"], properties);
}

/** What is asked about a request before it is answered, and what can be done for a permit to stand. */
export interface GuardOptions {
  readonly client: Pick<Client, "evaluate">;
  /**
   * What a request is. The subject must come from what the application has verified, never from the request's own word. `undefined`
   * means that there is no question for it, which is denied.
   */
  readonly question: (request: Request) => Question | undefined | Promise<Question | undefined>;
  /** Obligations that the application can apply, by kind; each says with `true` that it did, or will. */
  readonly obligations?: Readonly<Record<string, (request: Request, obligation: Obligation) => boolean>>;
}

/**
 * A handler of web-standard requests (Node, Deno, Bun, workers, Hono …) that is reached by nothing that policy does not permit.
 */
export function guard(options: GuardOptions, handler: (request: Request) => Response | Promise<Response>): (request: Request) => Promise<Response> {
  const registered = new Map(Object.entries(options.obligations ?? {}));
  return async (request) => {
    let answer: Answer;
    try {
      const question = await options.question(request);
      if (question === undefined) return refusal(403, ["no_question"]);
      answer = await options.client.evaluate(question);
    } catch (error) {
      return refusal(error instanceof DecisionError ? 503 : 500, ["no_decision"]);
    }
    const apply = (obligation: Obligation): boolean => {
      for (const [kind, doing] of registered) {
        if (obligation.own(kind) !== undefined) return doing(request, obligation);
      }
      return false;
    };
    if (!answer.permits(apply)) {
      return refusal(403, answer.reasons.length > 0 ? answer.reasons : [answer.obligations.length > 0 ? "obligation_unsupported" : "denied"]);
    }
    return handler(request);
  };
}

function refusal(status: number, reasons: readonly string[]): Response {
  const body = JSON.stringify({ error: { code: reasons[0], reasons } });
  return new Response(body, { status, headers: { "content-type": "application/json", "cache-control": "no-store" } });
}
