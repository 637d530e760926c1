// Reads a JSON list of simulations from stdin, writes what each came to: Allowed, ExplicitlyDenied,
// ImplicitlyDenied, or why it is no request that AWS knows.
import { readFileSync } from 'node:fs'
import { runSimulation } from '@cloud-copilot/iam-simulate'

const results = []
for (const simulation of JSON.parse(readFileSync(0, 'utf8'))) {
  const result = await runSimulation(simulation, {})
  results.push(result.resultType === 'error' ? JSON.stringify(result.errors) : result.overallResult)
}
process.stdout.write(JSON.stringify(results))
