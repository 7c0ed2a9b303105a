-- Posts leads that are all different, and prints the result as a line of JSON. Arguments: a text that is unique per run.

local threads = 0

function setup(thread)
  threads = threads + 1
  thread:set("number", threads)
end

function init(args)
  name = args[1] .. "-" .. number .. "-"
  posted = 0
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
end

function request()
  posted = posted + 1
  return wrk.format(nil, nil, nil, '{"email": "' .. name .. posted .. '@example.com", "phone": "+49123456789", ' ..
    '"zipcode": "66123", "house": {"is_owner": true}, "solar_energy_consumption": "5000", ' ..
    '"solar_offer_type": "Kaufen"}')
end

-- wrk counts a status above 399 as an error. A redirect stores no lead, so the comparison with the database finds it.
function done(summary, latency, requests)
  local errors = summary.errors
  print(string.format('{"responses": %d, "refused": %d, "broken": %d, "seconds": %.3f, "p50": %.2f, "p99": %.2f}',
    summary.requests, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
