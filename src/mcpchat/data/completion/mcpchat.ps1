# Completion of mcpchat for PowerShell: mcpchat completion powershell | Out-String | Invoke-Expression
Register-ArgumentCompleter -Native -CommandName mcpchat -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements | Select-Object -Skip 1 |
        Where-Object { $_.Extent.StartOffset -lt $cursorPosition } | ForEach-Object { $_.Extent.Text })
    if (-not $wordToComplete) { $words += '' }
    & $commandAst.CommandElements[0].Extent.Text __complete @words 2>$null | ForEach-Object {
        $word, $told = $_ -split "`t", 2
        if ($word -ne 'FILES') {
            if (-not $told) { $told = $word }
            [System.Management.Automation.CompletionResult]::new($word, $word, 'ParameterValue', $told)
        }
    }
}
