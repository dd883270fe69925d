-- Sends the bytes of `request`, which the bench writes above this, and prints one line for it to read.
wrk.format = function() return request end

done = function(summary, latency)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    print(string.format("requests %d seconds %.6f errors %d p50 %.6f p99 %.6f", summary.requests,
        summary.duration / 1e6, failed, latency:percentile(50) / 1e6, latency:percentile(99) / 1e6))
end
